"""One model for many callers: replicas that come and go, a queue in front, a breaker around."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from llm_endpoint.errors import EngineBusy, EngineError, EngineTimeout, EngineUnavailable
from llm_endpoint.generation.protocol import GeneratorInfo, TextEngine
from llm_endpoint.serving.breaker import Breaker
from llm_endpoint.serving.fleet import Fleet
from llm_endpoint.serving.limits import ServingLimits
from llm_endpoint.serving.queue import WaitingQueue
from llm_endpoint.serving.relay import Asked, Call, Priority, Relay
from llm_endpoint.serving.replica import Replica, pick
from llm_endpoint.serving.state import ModelState, state_of

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Lease:
    """A slot of a replica, for one request."""

    replica: Replica
    priority: Priority


class ServedModel(Relay):
    """A TextEngine over engines that `build` makes. Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        build: Callable[[], TextEngine],
        limits: ServingLimits = ServingLimits(),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """build: a new engine that is not started; called once here, for what the model is."""
        self.name, self._limits, self._clock = name, limits, clock
        self._fleet = Fleet(name, build, limits, clock, self._dispatch)
        self._queue: WaitingQueue[_Lease] = WaitingQueue(name, limits.queue, clock)
        self._breaker = Breaker(name, limits.breaker, clock)
        self._bulk_in_flight = 0
        self._is_closed = False

    @property
    def info(self) -> GeneratorInfo:
        return self._fleet.info

    @property
    def bulk(self) -> TextEngine:
        """The same model, asked by somebody who can wait: behind all others, and never in more
        than half of the slots."""
        return _Prioritised(self, "bulk")

    @property
    def may_stop(self) -> bool:
        """Whether it is in order that nothing of it runs."""
        return self._limits.min_replicas == 0

    def is_ready(self) -> bool:
        """Whether a request would be answered without waiting for an engine to come up."""
        return self._fleet.is_ready

    def state(self) -> ModelState:
        replicas = tuple(state_of(replica, self._clock()) for replica in self._fleet.replicas)
        is_broken = self._breaker.is_open
        return ModelState(self.name, self.info, replicas, len(self._queue), is_broken)

    def start(self) -> None:
        """Starts the least number of replicas; they come up in the background."""
        self._fleet.start()

    def load(self) -> None:
        """Starts or wakes the model, as a request would; returns at once.

        Raises EngineUnavailable after `close`.
        """
        self._check_open()
        self._fleet.wake()

    async def unload(self) -> None:
        """Ends every replica once what it works on is done, and after `drain_s` at the latest.

        The next request starts one again.
        """
        await asyncio.gather(*(self._fleet.end(one) for one in list(self._fleet.replicas)))

    async def tick(self) -> None:
        """To be called every second or so: scales up and down, and hands out what is free."""
        self._dispatch()
        if len(self._queue) == 0:
            await self._fleet.scale_down()
        elif self._queue.oldest_s >= self._limits.scale_after_s:
            self._fleet.scale_up()

    async def count_tokens(self, text: str) -> int:
        """As the engine counts; one that can do so without running is not started for it."""
        try:
            return await self._fleet.an_engine().count_tokens(text)
        except EngineUnavailable:
            return await super().count_tokens(text)

    async def relay(self, call: Call[_T], asked: Asked) -> AsyncGenerator[_T, None]:
        deadline = _now() + asked.timeout_s
        self._breaker.let_by()
        try:
            lease = await self._lease(asked, deadline)
            try:
                left_s = max(0.0, deadline - _now())
                async with aclosing(call(lease.replica.engine, left_s)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                self._release(lease)
        except EngineTimeout as exc:
            self._breaker.failed(exc)
            raise EngineTimeout(self.name, asked.timeout_s) from exc
        except EngineError as exc:
            self._breaker.failed(exc)
            raise
        except GeneratorExit:
            # Whoever asked for one piece, or has read enough, was answered.
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()

    async def close(self) -> None:
        """Ends everything at once; whoever waits gets EngineUnavailable."""
        self._is_closed = True
        self._queue.fail(EngineUnavailable(f"{self.name} was closed; build a new one"))
        await self._fleet.close()

    async def _lease(self, asked: Asked, deadline: float) -> _Lease:
        self._check_open()
        is_next = not self._queue.is_waiting(asked.priority)
        if is_next and (lease := self._find(asked.prefix, asked.priority)) is not None:
            return lease
        self._fleet.wake()
        patience_s = min(self._limits.queue_timeout_s, max(0.0, deadline - _now()))
        try:
            return await self._queue.wait(
                asked.prefix, asked.priority, patience_s, give_back=self._release
            )
        except TimeoutError as exc:
            if self._fleet.is_ready:
                raise EngineBusy(self.name, len(self._queue)) from exc
            raise self._fleet.unavailable(patience_s) from exc

    def _find(self, prefix: str, priority: Priority) -> _Lease | None:
        most_bulk = max(1, self._fleet.slots // 2)
        if priority == "bulk" and self._bulk_in_flight >= most_bulk:
            return None
        if (replica := pick(self._fleet.replicas, prefix)) is None:
            return None
        replica.in_flight += 1
        self._bulk_in_flight += priority == "bulk"
        return _Lease(replica, priority)

    def _release(self, lease: _Lease) -> None:
        replica = lease.replica
        replica.in_flight -= 1
        self._bulk_in_flight -= lease.priority == "bulk"
        replica.idle_since = self._clock()
        if replica.state == "starting":
            self._fleet.watch(replica)
        self._dispatch()

    def _dispatch(self) -> None:
        self._queue.give(self._find)
        if len(self._queue) and not self._is_closed:
            self._fleet.wake()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineUnavailable(f"{self.name} was closed; build a new one")


class _Prioritised(Relay):
    """A served model under another priority; closing it is the model's own to do."""

    def __init__(self, model: ServedModel, priority: Priority) -> None:
        self._model, self._priority = model, priority

    @property
    def info(self) -> GeneratorInfo:
        return self._model.info

    def relay(self, call: Call[_T], asked: Asked) -> AsyncGenerator[_T, None]:
        return self._model.relay(call, Asked(asked.prefix, asked.timeout_s, self._priority))

    async def count_tokens(self, text: str) -> int:
        return await self._model.count_tokens(text)

    async def close(self) -> None:
        pass


def _now() -> float:
    return asyncio.get_running_loop().time()
