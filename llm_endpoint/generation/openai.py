"""Text from any server that speaks OpenAI's chat protocol over HTTP."""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncGenerator, Iterator
from urllib.parse import urlsplit

import httpx2
import orjson

from llm_endpoint.errors import (
    EngineAnswerInvalid,
    EngineDied,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
)
from llm_endpoint.generation.control_tokens import defused
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    GeneratorInfo,
    TokenUsage,
)
from llm_endpoint.generation.wire import (
    Dialect,
    decode_completion,
    decode_delta,
    decode_error,
    decode_object,
    encode_request,
    error_in_stream,
)

_TOKENIZE_TIMEOUT_S = 10.0
# A token covers at least one byte; English has about 4.5 bytes a token, program code 3, digits 1.
_BYTES_PER_TOKEN = 2


class OpenAIGenerator:
    """A client of one served model. One event loop at a time; connections are per loop."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        context_tokens: int = 4096,
        engine: str = "openai",
        weights_sha256: str | None = None,
        dialect: Dialect = "openai",
        max_connections: int = 64,
    ) -> None:
        """`base_url` as for OpenAI's SDK: requests go to `<base_url>/chat/completions`.

        `dialect` says what the server can do beyond the protocol: /tokenize (beside /v1), and
        for llama.cpp progress events, without which it finishes prompts nobody waits for.
        """
        self._base_url = base_url.rstrip("/")
        self._info = GeneratorInfo(model, engine, context_tokens, weights_sha256)
        self._api_key = api_key
        self._dialect = dialect
        self._max_connections = max_connections
        self._client: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    async def generate(self, request: GenerationRequest) -> Completion:
        body = encode_request(request, self._info.model, stream=False, dialect=self._dialect)
        answer = await self._post(f"{self._base_url}/chat/completions", body, request.timeout_s)
        return decode_completion(decode_object(answer, self._info.model), self._info.model)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[CompletionDelta, None]:
        """Without usage from the server (some ignore stream_options) the last delta's counts are
        bounds: count_tokens of the messages, and one token per event."""
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        reason: str | None = None
        usage: TokenUsage | None = None
        events = 0
        async with contextlib.aclosing(self._events(request, deadline)) as deltas:
            async for delta in deltas:
                reason, usage = delta.finish_reason or reason, delta.usage or usage
                if delta.text:
                    events += 1
                    yield CompletionDelta(delta.text)
        if reason is None:
            raise self._died("the stream ended without a finish reason")
        yield CompletionDelta("", reason, usage or _estimated_usage(request, events))

    async def count_tokens(self, text: str) -> int:
        """Exact if the dialect has /tokenize; else half the UTF-8 bytes, about twice too high for
        prose and only too low for long runs of digits or random characters."""
        if self._dialect == "openai":
            return _estimated_tokens(text)
        key = "content" if self._dialect == "llama.cpp" else "prompt"
        body: dict[str, object] = {key: defused(text), "model": self._info.model}
        # vLLM adds a start token unless told not to, llama.cpp only when told.
        if self._dialect == "vllm":
            body["add_special_tokens"] = False
        url = f"{self._base_url.removesuffix('/v1')}/tokenize"
        answer = await self._post(url, orjson.dumps(body), _TOKENIZE_TIMEOUT_S)
        tokens = decode_object(answer, self._info.model).get("tokens")
        if not isinstance(tokens, list):
            raise EngineAnswerInvalid(self._info.model, "/tokenize sent no list of tokens")
        return len(tokens)

    async def close(self) -> None:
        self._is_closed = True
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _post(self, url: str, body: bytes, timeout_s: float) -> bytes:
        model = self._info.model
        try:
            async with asyncio.timeout(timeout_s):
                with self._translated_errors():
                    response = await self._open_client().post(url, content=body)
        except TimeoutError as exc:
            raise EngineTimeout(model, timeout_s) from exc
        if response.status_code != 200:
            raise decode_error(response.status_code, response.content, model)
        return response.content

    async def _events(
        self, request: GenerationRequest, deadline: float
    ) -> AsyncGenerator[CompletionDelta, None]:
        """Decoded events. Leaving this generator, however, closes the connection: engines take
        that as the order to stop writing."""
        model = self._info.model
        body = encode_request(request, model, stream=True, dialect=self._dialect)
        url = f"{self._base_url}/chat/completions"
        try:
            with self._translated_errors():
                async with contextlib.AsyncExitStack() as stack:
                    client = self._open_client()
                    # Not around the yield below: a timeout belongs to the task that entered it.
                    async with asyncio.timeout_at(deadline):
                        response = await stack.enter_async_context(
                            client.stream("POST", url, content=body)
                        )
                        if response.status_code != 200:
                            raise decode_error(response.status_code, await response.aread(), model)
                    events = aiter(httpx2.EventSource(response))
                    while True:
                        async with asyncio.timeout_at(deadline):
                            event = await anext(events, None)
                        if event is None or event.data == "[DONE]":
                            return
                        chunk = decode_object(event.data, model)
                        if error := error_in_stream(chunk, model):
                            raise error
                        yield decode_delta(chunk, model)
        except TimeoutError as exc:
            raise EngineTimeout(model, request.timeout_s) from exc

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        model = self._info.model
        try:
            yield
        except (httpx2.ConnectError, httpx2.ProxyError) as exc:
            raise EngineUnavailable(
                f"{model} is not reachable at {self._base_url} ({exc}); is the server running?"
            ) from exc
        except httpx2.SSEError as exc:
            raise EngineAnswerInvalid(model, str(exc)) from exc
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as exc:
            raise self._died(str(exc) or type(exc).__name__) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise EngineAnswerInvalid(model, f"{type(exc).__name__}: {exc}") from exc

    def _died(self, reason: str) -> EngineError:
        return EngineDied(
            f"{self._info.model} went away in the middle of an answer ({reason}); ask again"
        )

    def _open_client(self) -> httpx2.AsyncClient:
        if self._is_closed:
            raise EngineUnavailable(f"{self._info.model} is closed; build a new generator")
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            # Sockets belong to the loop that opened them.
            self._client, self._loop = self._new_client(), loop
        return self._client

    def _new_client(self) -> httpx2.AsyncClient:
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        is_local = _is_loopback(self._base_url)
        # On loopback a connection costs 0.3 ms, and a kept one can be half dead after a restart
        # and holds one of llama.cpp's threads; far away a connection is a TLS handshake: keep it.
        kept = 0 if is_local else 20
        return httpx2.AsyncClient(
            headers=headers,
            limits=httpx2.Limits(
                max_connections=self._max_connections, max_keepalive_connections=kept
            ),
            # Deadlines are ours (asyncio.timeout), over the whole answer.
            timeout=None,
            # A proxy from the environment must not see, or break, traffic to ourselves.
            trust_env=not is_local,
        )


def _estimated_usage(request: GenerationRequest, events: int) -> TokenUsage:
    prompt = sum(_estimated_tokens(message.content) for message in request.messages)
    return TokenUsage(prompt, events)


def _estimated_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
