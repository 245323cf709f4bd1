"""HTTP to an engine: one client per event loop, foreign errors as ours, JSON answers decoded."""

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import httpx2
import orjson

from llm_endpoint.errors import (
    ContextOverflow,
    EngineAnswerInvalid,
    EngineBusy,
    EngineDied,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
)

# llama.cpp: "request (731 tokens) exceeds the available context size (512 tokens)"; it also sends
# both as fields. vLLM and OpenAI: "maximum context length is 4096 tokens ... 5000 in the messages"
_OVERFLOW = re.compile(
    r"context (?:length|size|window)|exceed_context_size|context_length_exceeded", re.IGNORECASE
)
# vLLM counts a prompt only up to the context, so its other number is no count of the prompt.
_CONTEXT_TOKENS = re.compile(r"maximum context length is (\d+) tokens")


class EngineConnection:
    """Connections to the server at `base_url`, whose errors name `model`."""

    def __init__(
        self, base_url: str, model: str, *, api_key: str | None = None, max_connections: int = 64
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._model = model
        self._api_key = api_key
        self._max_connections = max_connections
        self._client: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    async def post(self, url: str, body: bytes, timeout_s: float) -> bytes:
        """The body of a 200. Raises TimeoutError after `timeout_s`, or an EngineError."""
        async with asyncio.timeout(timeout_s):
            with self.translated_errors():
                response = await self.client().post(url, content=body)
        if response.status_code != 200:
            raise decode_error(
                response.status_code, response.content, self._model, response.headers
            )
        return response.content

    def client(self) -> httpx2.AsyncClient:
        """The running loop's client. Raises EngineUnavailable after close."""
        if self._is_closed:
            raise EngineUnavailable(f"{self._model} is closed; build a new one")
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            # Sockets belong to the loop that opened them.
            self._client, self._loop = self._new_client(), loop
        return self._client

    @contextlib.contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raises errors of our tree in place of httpx2's."""
        try:
            yield
        except (httpx2.ConnectError, httpx2.ProxyError) as exc:
            raise EngineUnavailable(
                f"{self._model} is not reachable at {self.base_url} ({exc}); is the server running?"
            ) from exc
        except httpx2.SSEError as exc:
            raise EngineAnswerInvalid(self._model, str(exc)) from exc
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as exc:
            raise self.died(str(exc) or type(exc).__name__) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise EngineAnswerInvalid(self._model, f"{type(exc).__name__}: {exc}") from exc

    def died(self, reason: str) -> EngineError:
        return EngineDied(
            f"{self._model} went away in the middle of an answer ({reason}); ask again"
        )

    async def close(self) -> None:
        self._is_closed = True
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    def _new_client(self) -> httpx2.AsyncClient:
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        is_local = _is_loopback(self.base_url)
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


def decode_object(data: bytes | str, model: str) -> Mapping[str, object]:
    """The JSON object in `data`. Raises EngineAnswerInvalid."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise EngineAnswerInvalid(model, f"not JSON: {data[:80]!r}") from exc
    if not isinstance(value, dict):
        raise EngineAnswerInvalid(model, f"not a JSON object: {data[:80]!r}")
    return value


def decode_error(
    status: int, data: bytes, model: str, headers: Mapping[str, str] | None = None
) -> EngineError:
    """The error of our tree for an answer that is not 2xx."""
    try:
        error = object_field(decode_object(data, model), "error")
    except EngineAnswerInvalid:
        error = {}
    message = str(error.get("message") or data[:300].decode("utf-8", "replace") or "no message")
    if status == 429:
        after = (headers or {}).get("retry-after", "")
        # It may also be a date; then it is the clients' own patience that counts.
        return EngineBusy(model, retry_after_s=float(after) if after.isdecimal() else 1.0)
    if status == 503:
        return EngineUnavailable(f"{model} is not ready: {message}; try again in a moment")
    if status >= 500:
        return EngineFailed(model, status, message)
    if status in (400, 413) and _OVERFLOW.search(
        f"{message} {error.get('type')} {error.get('code')}"
    ):
        counts = error.get("n_prompt_tokens"), error.get("n_ctx")
        prompt, context = (count if isinstance(count, int) else None for count in counts)
        if context is None and (said := _CONTEXT_TOKENS.search(message)):
            context = int(said[1])
        return ContextOverflow(model, prompt, context, status)
    return EngineRefused(model, status, message)


def object_field(body: Mapping[str, object], key: str) -> Mapping[str, object]:
    """The object under `key`, or an empty one."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
