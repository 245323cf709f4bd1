"""The client for asyncio programs. What it says and understands is in `wire`, when it repeats a
call in `retries`; here are only the waits."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Self, cast

import httpx2

from headrace_client import wire
from headrace_client.errors import NOT_READY, HeadraceError
from headrace_client.results import Answer, Delta, Health, IndexState, SearchResult
from headrace_client.retries import Deadline, RetryPolicy, Tries
from headrace_client.settings import DEFAULT_TIMEOUT_S, resolve
from headrace_client.transport import LIMITS, reply_of, translated
from headrace_client.wire import Call, EventReader, Reply


class AsyncAnswerStream(AsyncIterator[Delta | Answer]):
    """Deltas, then the Answer. Leaving its `async with` block early ends the work on the server.

    Nothing is sent before the first event is asked for.
    """

    def __init__(self, events: AsyncGenerator[Delta | Answer, None]) -> None:
        self._events = events

    async def __anext__(self) -> Delta | Answer:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Closes the connection unless the stream is at its end. Calling it twice is fine."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncHeadraceClient:
    """Asks one Headrace server, from one event loop. Connections are pooled and kept open."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: RetryPolicy = RetryPolicy(),
    ) -> None:
        """base_url, api_key: None takes HEADRACE_URL (else port 8080 of this machine) and
        HEADRACE_API_KEY. timeout_s: of a whole call, tries and pauses included.
        Raises InvalidSetting.
        """
        self._settings = resolve(base_url, api_key, timeout_s, retries)
        self._http = httpx2.AsyncClient(
            base_url=self._settings.base_url,
            headers=self._settings.headers,
            limits=LIMITS,
            # asyncio.timeout ends every wait at the deadline.
            timeout=None,
            trust_env=not self._settings.is_loopback,
        )

    async def query(
        self,
        question: str,
        *,
        chain: str | None = None,
        k: int | None = None,
        filter: Mapping[str, object] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """As HeadraceClient.query."""
        call = wire.query_call(
            question, chain=chain, k=k, filter=filter, user=user, is_streamed=False
        )
        return wire.decode_answer(await self._send(call, timeout_s))

    def stream(
        self,
        question: str,
        *,
        chain: str | None = None,
        k: int | None = None,
        filter: Mapping[str, object] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncAnswerStream:
        """As HeadraceClient.stream; not awaited, used with `async with` and `async for`."""
        call = wire.query_call(
            question, chain=chain, k=k, filter=filter, user=user, is_streamed=True
        )
        return AsyncAnswerStream(self._stream(call, timeout_s))

    async def search(
        self,
        text: str,
        *,
        index: str,
        query_type: str | None = None,
        k: int | None = None,
        filter: Mapping[str, object] | None = None,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """As HeadraceClient.search."""
        call = wire.search_call(text, index=index, query_type=query_type, k=k, filter=filter)
        return wire.decode_search(await self._send(call, timeout_s))

    async def indexes(self, *, timeout_s: float | None = None) -> tuple[IndexState, ...]:
        """As HeadraceClient.indexes."""
        return wire.decode_indexes(await self._send(wire.INDEXES, timeout_s))

    async def index(self, name: str, *, timeout_s: float | None = None) -> IndexState:
        """As HeadraceClient.index."""
        return wire.decode_index(await self._send(wire.index_call(name), timeout_s))

    async def health(self, *, timeout_s: float | None = None) -> Health:
        """As HeadraceClient.health."""
        reply = await self._try(wire.HEALTH, self._settings.deadline(timeout_s))
        return wire.decode_health(reply)

    async def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """As HeadraceClient.is_ready."""
        try:
            return (await self.health(timeout_s=timeout_s)).is_ready
        except NOT_READY:
            return False

    async def aclose(self) -> None:
        """Closes the connections. Calling it twice is fine."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.base_url!r})"

    async def _send(self, call: Call, timeout_s: float | None) -> bytes:
        tries = self._settings.tries(timeout_s)
        while True:
            try:
                return wire.body_of(await self._try(call, tries.deadline))
            except HeadraceError as exc:
                pause_s = tries.pause_after(exc)
            await asyncio.sleep(pause_s)

    async def _stream(
        self, call: Call, timeout_s: float | None
    ) -> AsyncGenerator[Delta | Answer, None]:
        tries = self._settings.tries(timeout_s)
        while True:
            reader = EventReader()
            try:
                async with contextlib.aclosing(self._events(call, tries)) as events:
                    async for data in events:
                        if event := reader.read(data):
                            yield event
                reader.finish()
                return
            except HeadraceError as exc:
                if reader.is_answered:
                    return
                if reader.is_begun:
                    raise
                pause_s = tries.pause_after(exc)
            await asyncio.sleep(pause_s)

    async def _events(self, call: Call, tries: Tries) -> AsyncGenerator[str, None]:
        """The data of each event of one try."""
        deadline = tries.deadline
        async with self._open(call, deadline) as response:
            if response.status_code != 200:
                wire.body_of(await self._read(response, deadline))
            source = aiter(httpx2.EventSource(response))
            events = cast(AsyncGenerator[httpx2.ServerSentEvent, None], source)
            with translated(deadline, self._settings, is_begun=True):
                async with contextlib.aclosing(events):
                    while True:
                        # Not around the yield: a timeout belongs to the task that entered it.
                        async with asyncio.timeout(deadline.left_s):
                            event = await anext(events, None)
                        if event is None:
                            return
                        yield event.data

    async def _try(self, call: Call, deadline: Deadline) -> Reply:
        async with self._open(call, deadline) as response:
            return await self._read(response, deadline)

    async def _read(self, response: httpx2.Response, deadline: Deadline) -> Reply:
        with translated(deadline, self._settings, is_begun=True):
            async with asyncio.timeout(deadline.left_s):
                await response.aread()
        return reply_of(response)

    @contextlib.asynccontextmanager
    async def _open(self, call: Call, deadline: Deadline) -> AsyncIterator[httpx2.Response]:
        """A response whose body is still to come."""
        request = self._http.build_request(call.method, call.path, content=call.body)
        with translated(deadline, self._settings, is_begun=False):
            async with asyncio.timeout(deadline.left_s):
                response = await self._http.send(request, stream=True)
        async with contextlib.aclosing(response):
            yield response
