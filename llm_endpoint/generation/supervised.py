"""Any engine that is a supervised child on this machine and speaks OpenAI's HTTP on loopback."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TypeVar

from llm_endpoint.errors import EngineAnswerInvalid, EngineDied, EngineTimeout, EngineUnavailable
from llm_endpoint.generation.openai import OpenAIGenerator
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    GeneratorInfo,
    Route,
)
from llm_endpoint.generation.wire import Dialect
from llm_endpoint.supervisor import ChildSpec, Endpoint, Supervisor

_T = TypeVar("_T")
_POLL_S = 0.02
_COUNT_TIMEOUT_S = 30.0


class SupervisedGenerator:
    """Call start() once; requests wait for the child within their own timeout.

    When the child dies, answers in flight raise EngineDied and the next request waits for the
    restarted child.
    """

    def __init__(
        self, spec: ChildSpec, info: GeneratorInfo, *, dialect: Dialect, max_connections: int = 64
    ) -> None:
        self._info = info
        self._dialect: Dialect = dialect
        self._max_connections = max_connections
        self._supervisor = Supervisor(spec)
        self._client: tuple[Endpoint, OpenAIGenerator] | None = None

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._supervisor.pid

    @property
    def restarts(self) -> int:
        return self._supervisor.restarts

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the ready child listens, with its key; None while it is not ready."""
        return self._supervisor.endpoint

    def start(self) -> None:
        """Return at once; the child loads its weights in the background."""
        self._supervisor.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Raises EngineUnavailable, with the end of the engine's log, after `timeout_s`."""
        self._supervisor.wait_ready(timeout_s)

    def is_ready(self) -> bool:
        return self._supervisor.endpoint is not None

    def unavailable(self, waited_s: float) -> EngineUnavailable:
        return self._supervisor.unavailable(waited_s)

    async def generate(self, request: GenerationRequest) -> Completion:
        # Over a stream: llama.cpp notices a client that left only when it writes to it. Measured:
        # a cancelled stream frees its slot at once, a cancelled plain request runs to its end.
        async with contextlib.aclosing(self.stream(request)) as deltas:
            seen = [delta async for delta in deltas]
        text, last = "".join(delta.text for delta in seen), seen[-1]
        if last.finish_reason is None or last.usage is None:
            raise EngineAnswerInvalid(self._info.model, "the last event has no finish reason")
        return Completion(text, last.finish_reason, last.usage, self._info.model)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[CompletionDelta, None]:
        def opened(client: OpenAIGenerator, left_s: float) -> AsyncGenerator[CompletionDelta, None]:
            return client.stream(dataclasses.replace(request, timeout_s=left_s))

        async with contextlib.aclosing(self._relay(opened, request.timeout_s)) as deltas:
            async for delta in deltas:
                yield delta

    async def ask(self, route: Route, body: Mapping[str, object], *, timeout_s: float) -> bytes:
        async def opened(client: OpenAIGenerator, left_s: float) -> AsyncGenerator[bytes, None]:
            yield await client.ask(route, body, timeout_s=left_s)

        async with contextlib.aclosing(self._relay(opened, timeout_s)) as answers:
            return await anext(answers)

    async def ask_stream(
        self, route: Route, body: Mapping[str, object], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        def opened(client: OpenAIGenerator, left_s: float) -> AsyncGenerator[bytes, None]:
            return client.ask_stream(route, body, timeout_s=left_s)

        async with contextlib.aclosing(self._relay(opened, timeout_s)) as events:
            async for event in events:
                yield event

    async def count_tokens(self, text: str) -> int:
        """Exact where the engine has /tokenize; waits for the child to be ready."""
        deadline = _now() + _COUNT_TIMEOUT_S
        while True:
            endpoint, client = await self._connect(deadline, _COUNT_TIMEOUT_S)
            try:
                return await client.count_tokens(text)
            except (EngineUnavailable, EngineDied):
                # Counting changes nothing, so unlike an answer it can simply be asked again.
                await self._lost(endpoint, deadline)

    async def close(self) -> None:
        """Stop the child and wait until it is gone."""
        client, self._client = self._client, None
        if client is not None:
            await client[1].close()
        await asyncio.to_thread(self._supervisor.stop)

    async def _relay(
        self,
        opened: Callable[[OpenAIGenerator, float], AsyncGenerator[_T, None]],
        timeout_s: float,
    ) -> AsyncGenerator[_T, None]:
        """What `opened` yields, asked of the ready child; again as long as no child took it."""
        deadline = _now() + timeout_s
        has_begun = False
        while True:
            endpoint, client = await self._connect(deadline, timeout_s)
            try:
                async with contextlib.aclosing(opened(client, max(0.0, deadline - _now()))) as all_:
                    async for piece in all_:
                        has_begun = True
                        yield piece
                return
            except EngineUnavailable:
                if has_begun:
                    raise
                await self._lost(endpoint, deadline)
            except EngineDied:
                self._supervisor.doubt(endpoint)
                raise
            except EngineTimeout as exc:
                raise EngineTimeout(self._info.model, timeout_s) from exc

    async def _connect(self, deadline: float, timeout_s: float) -> tuple[Endpoint, OpenAIGenerator]:
        """A client of the ready child. Waits for it until `deadline`."""
        while (endpoint := self._supervisor.endpoint) is None:
            if _now() >= deadline or not self._supervisor.is_running:
                raise self._supervisor.unavailable(timeout_s)
            await asyncio.sleep(_POLL_S)
        if self._client is None or self._client[0].start != endpoint.start:
            # The old client's connections, if any, are to a dead process: nothing to close.
            self._client = endpoint, self._new_client(endpoint)
        return self._client

    async def _lost(self, endpoint: Endpoint, deadline: float) -> None:
        """The connection was not even accepted, so nothing was asked: it is safe to ask again."""
        self._supervisor.doubt(endpoint)
        if _now() < deadline:
            await asyncio.sleep(_POLL_S)

    def _new_client(self, endpoint: Endpoint) -> OpenAIGenerator:
        return OpenAIGenerator(
            f"{endpoint.address}/v1",
            self._info.model,
            api_key=endpoint.api_key,
            context_tokens=self._info.context_tokens,
            engine=self._info.engine,
            weights_sha256=self._info.weights_sha256,
            dialect=self._dialect,
            max_connections=self._max_connections,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
