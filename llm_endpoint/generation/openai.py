"""Text from any server that speaks OpenAI's chat protocol over HTTP."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping

import httpx2
import orjson

from llm_endpoint.connection import EngineConnection, decode_error, decode_object
from llm_endpoint.errors import (
    ContextOverflow,
    EngineAnswerInvalid,
    EngineError,
    EngineTimeout,
)
from llm_endpoint.generation.control_tokens import defused
from llm_endpoint.generation.joining import join_events
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    GeneratorInfo,
    Route,
    TokenUsage,
)
from llm_endpoint.generation.wire import (
    Dialect,
    decode_completion,
    decode_delta,
    encode_body,
    encode_request,
    error_in_stream,
)

_CHAT: Route = "chat/completions"
# Quotes inside a text are escaped: only a key looks like this.
_FINISHED = re.compile(r'"finish_reason"\s*:\s*"')
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
        self._connection = EngineConnection(
            base_url, model, api_key=api_key, max_connections=max_connections
        )
        self._info = GeneratorInfo(model, engine, context_tokens, weights_sha256)
        self._dialect = dialect

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    async def generate(self, request: GenerationRequest) -> Completion:
        body = encode_request(request, self._info.model, stream=False, dialect=self._dialect)
        answer = await self._post(f"{self._connection.base_url}/{_CHAT}", body, request.timeout_s)
        return decode_completion(decode_object(answer, self._info.model), self._info.model)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[CompletionDelta, None]:
        """Without usage from the server (some ignore stream_options) the last delta's counts are
        bounds: count_tokens of the messages, and one token per event."""
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        reason: str | None = None
        usage: TokenUsage | None = None
        events = 0
        async with contextlib.aclosing(self._deltas(request, deadline)) as deltas:
            async for delta in deltas:
                reason, usage = delta.finish_reason or reason, delta.usage or usage
                if delta.text:
                    events += 1
                    yield CompletionDelta(delta.text)
        if reason is None:
            raise self._connection.died("the stream ended without a finish reason")
        yield CompletionDelta("", reason, usage or _estimated_usage(request, events))

    async def ask(self, route: Route, body: Mapping[str, object], *, timeout_s: float) -> bytes:
        model = self._info.model
        if self._dialect != "llama.cpp":
            encoded = encode_body(body, model, stream=False, dialect=self._dialect)
            return await self._post(f"{self._connection.base_url}/{route}", encoded, timeout_s)
        # Measured: llama.cpp ends a stream whose reader left at once, a plain request never.
        async with contextlib.aclosing(self.ask_stream(route, body, timeout_s=timeout_s)) as events:
            seen = [dict(decode_object(event, model)) async for event in events]
        return orjson.dumps(join_events(seen))

    async def ask_stream(
        self, route: Route, body: Mapping[str, object], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        deadline = asyncio.get_running_loop().time() + timeout_s
        encoded = encode_body(body, self._info.model, stream=True, dialect=self._dialect)
        has_finished = False
        try:
            async with contextlib.aclosing(self._events(route, encoded, deadline)) as events:
                async for event in events:
                    if '"prompt_progress"' in event:
                        continue
                    has_finished = has_finished or _FINISHED.search(event) is not None
                    yield event.encode()
        except TimeoutError as exc:
            raise EngineTimeout(self._info.model, timeout_s) from exc
        if not has_finished:
            raise self._connection.died("the stream ended without a finish reason")

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
        answer = await self._post(self._tokenize_url, orjson.dumps(body), _TOKENIZE_TIMEOUT_S)
        tokens = decode_object(answer, self._info.model).get("tokens")
        if not isinstance(tokens, list):
            raise EngineAnswerInvalid(self._info.model, "/tokenize sent no list of tokens")
        return len(tokens)

    async def close(self) -> None:
        await self._connection.close()

    async def _post(self, url: str, body: bytes, timeout_s: float) -> bytes:
        try:
            return await self._connection.post(url, body, timeout_s)
        except TimeoutError as exc:
            raise EngineTimeout(self._info.model, timeout_s) from exc
        except ContextOverflow as exc:
            raise await self._counted(exc, body) from exc

    async def _counted(self, error: ContextOverflow, body: bytes) -> ContextOverflow:
        """The error with the length of the prompt, where the engine can be asked for it."""
        if error.prompt_tokens is not None or self._dialect != "vllm":
            return error
        form = orjson.loads(body)
        wanted = {key: form[key] for key in ("model", "messages", "prompt") if key in form}
        try:
            answer = await self._connection.post(
                self._tokenize_url, orjson.dumps(wanted), _TOKENIZE_TIMEOUT_S
            )
            count = decode_object(answer, self._info.model).get("count")
        except (TimeoutError, EngineError):
            return error
        if not isinstance(count, int):
            return error
        return ContextOverflow(self._info.model, count, error.context_tokens, error.status)

    @property
    def _tokenize_url(self) -> str:
        return f"{self._connection.base_url.removesuffix('/v1')}/tokenize"

    async def _deltas(
        self, request: GenerationRequest, deadline: float
    ) -> AsyncGenerator[CompletionDelta, None]:
        model = self._info.model
        body = encode_request(request, model, stream=True, dialect=self._dialect)
        try:
            async with contextlib.aclosing(self._events(_CHAT, body, deadline)) as events:
                async for event in events:
                    yield decode_delta(decode_object(event, model), model)
        except TimeoutError as exc:
            raise EngineTimeout(model, request.timeout_s) from exc

    async def _events(
        self, route: Route, body: bytes, deadline: float
    ) -> AsyncGenerator[str, None]:
        """Events' data up to [DONE]. Raises TimeoutError at `deadline`, or an EngineError.

        Leaving this generator, however, closes the connection: engines take that as the order to
        stop writing.
        """
        model = self._info.model
        url = f"{self._connection.base_url}/{route}"
        with self._connection.translated_errors():
            async with contextlib.AsyncExitStack() as stack:
                client = self._connection.client()
                # Not around the yield below: a timeout belongs to the task that entered it.
                async with asyncio.timeout_at(deadline):
                    response = await stack.enter_async_context(
                        client.stream("POST", url, content=body)
                    )
                    if response.status_code != 200:
                        refusal = decode_error(
                            response.status_code, await response.aread(), model, response.headers
                        )
                        if isinstance(refusal, ContextOverflow):
                            refusal = await self._counted(refusal, body)
                        raise refusal
                events = aiter(httpx2.EventSource(response))
                while True:
                    async with asyncio.timeout_at(deadline):
                        event = await anext(events, None)
                    if event is None or event.data == "[DONE]":
                        return
                    # A stream has sent its 200 already: later failures come as such an event.
                    if '"error"' in event.data:
                        chunk = decode_object(event.data, model)
                        if error := error_in_stream(chunk, model):
                            raise error
                    yield event.data


def _estimated_usage(request: GenerationRequest, events: int) -> TokenUsage:
    prompt = sum(_estimated_tokens(message.content) for message in request.messages)
    return TokenUsage(prompt, events)


def _estimated_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
