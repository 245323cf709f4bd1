"""A name before several served models: shares, fallbacks, a shadow, bounds of its own."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, TypeVar

import orjson

from llm_endpoint.errors import (
    EngineAnswerInvalid,
    EngineBusy,
    EngineDied,
    EngineError,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
)
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GeneratorInfo,
    TextEngine,
)
from llm_endpoint.serving.provision import Provision, TokenBucket
from llm_endpoint.serving.relay import Asked, Call, Priority, Relay
from llm_endpoint.serving.served_model import ServedModel

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Failure = Literal["unavailable", "timeout", "failed", "busy", "died", "invalid"]
_KINDS: dict[Failure, type[EngineError]] = {
    "unavailable": EngineUnavailable,
    "timeout": EngineTimeout,
    "failed": EngineFailed,
    "busy": EngineBusy,
    "died": EngineDied,
    "invalid": EngineAnswerInvalid,
}
# Copies beyond these are not made: a shadow must never hold up what it follows.
_SHADOWS_AT_ONCE = 4
# With less time left nobody else is asked.
_LEAST_S = 0.05


@dataclass(frozen=True, slots=True)
class Share:
    """A served model, and its part of the requests in per cent."""

    model: ServedModel
    percent: int


@dataclass(frozen=True, slots=True)
class Shadow:
    """A model that is asked the same as the others in `percent` of the requests; its answers are
    thrown away."""

    model: ServedModel
    percent: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """How an endpoint's requests are answered.

    shares: add up to 100. fallbacks: in order, after one of `fall_back_on` and before the first
    piece of an answer. patience_s: for the first piece (of an answer that is not streamed: for all
    of it) while there is somebody else to ask; None: as long as the request. max_concurrency:
    requests at once, None for no bound of its own.
    """

    shares: Sequence[Share]
    fallbacks: Sequence[ServedModel] = ()
    fall_back_on: Sequence[Failure] = ("unavailable", "timeout", "failed", "busy", "died")
    patience_s: float | None = None
    shadow: Shadow | None = None
    max_concurrency: int | None = None
    provision: Provision | None = None

    def __post_init__(self) -> None:
        total = sum(share.percent for share in self.shares)
        if total != 100:
            raise ValueError(f"the shares of an endpoint add up to {total}, not to 100")


@dataclass(frozen=True, slots=True)
class EndpointState:
    """requests: since the start, by served model; fallen_back: of them, those that another failed.
    shadowed, shadow_failures, shadow_dropped: copies made, those that failed, those not made for
    too many were under way."""

    name: str
    in_flight: int
    requests: dict[str, int]
    fallen_back: int
    shadowed: int
    shadow_failures: int
    shadow_dropped: int


class Endpoint(Relay):
    """A TextEngine over served models, which it does not own."""

    def __init__(
        self,
        name: str,
        traffic: Traffic,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name, self._traffic, self._chance = name, traffic, chance
        provision = traffic.provision
        self._bucket = None if provision is None else TokenBucket(provision.tokens_per_s, clock)
        self._in_flight = 0
        self._requests = {share.model.name: 0 for share in traffic.shares}
        self._fallen_back = self._shadowed = self._shadow_failures = self._shadow_dropped = 0
        self._shadows: set[asyncio.Task[None]] = set()

    @property
    def info(self) -> GeneratorInfo:
        """Of the largest share; the context is the smallest of all who may answer."""
        first = self._first.info
        everybody = [share.model for share in self._traffic.shares] + [*self._traffic.fallbacks]
        context = min(model.info.context_tokens for model in everybody)
        takes_tools = all(model.info.takes_tools for model in everybody)
        return GeneratorInfo(self.name, first.engine, context, None, takes_tools)

    @property
    def _first(self) -> ServedModel:
        return max(self._traffic.shares, key=lambda share: share.percent).model

    @property
    def bulk(self) -> TextEngine:
        """The same endpoint, asked by somebody who can wait."""
        return _Bulk(self)

    def state(self) -> EndpointState:
        return EndpointState(
            self.name, self._in_flight, dict(self._requests), self._fallen_back,
            self._shadowed, self._shadow_failures, self._shadow_dropped,
        )  # fmt: skip

    async def relay(self, call: Call[_T], asked: Asked) -> AsyncGenerator[_T, None]:
        priority = self._admitted(asked.priority)
        self._in_flight += 1
        try:
            self._copy(call, asked)
            async with aclosing(self._answered(call, asked, priority)) as pieces:
                async for piece in pieces:
                    self._count(piece)
                    yield piece
        finally:
            self._in_flight -= 1

    async def count_tokens(self, text: str) -> int:
        """As the model with the largest share counts."""
        return await self._first.count_tokens(text)

    async def close(self) -> None:
        for task in self._shadows:
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)

    def _admitted(self, priority: Priority) -> Priority:
        """The priority that the request has. Raises EngineBusy."""
        most = self._traffic.max_concurrency
        if most is not None and self._in_flight >= most:
            raise EngineBusy(self.name, self._in_flight)
        provision = self._traffic.provision
        if self._bucket is None or provision is None or priority == "bulk":
            return priority
        if (empty_s := self._bucket.empty_for_s) == 0:
            return "reserved"
        if provision.may_burst:
            return "interactive"
        raise EngineBusy(self.name, None, empty_s)

    async def _answered(
        self, call: Call[_T], asked: Asked, priority: Priority
    ) -> AsyncGenerator[_T, None]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + asked.timeout_s
        kinds = tuple(_KINDS[kind] for kind in self._traffic.fall_back_on)
        waiting = [self._drawn(), *self._traffic.fallbacks]
        while True:
            model = waiting.pop(0)
            own = Asked(asked.prefix, deadline - loop.time(), priority)
            self._requests[model.name] = self._requests.get(model.name, 0) + 1
            has_begun = False
            try:
                async with aclosing(self._patiently(model, call, own, bool(waiting))) as pieces:
                    async for piece in pieces:
                        has_begun = True
                        yield piece
                return
            except kinds as exc:
                # What was sent cannot be taken back: another model would begin anew.
                if has_begun or not waiting or deadline - loop.time() < _LEAST_S:
                    if isinstance(exc, EngineTimeout):
                        raise EngineTimeout(model.name, asked.timeout_s) from exc
                    raise
                self._fallen_back += 1
                _log.warning(
                    "endpoint_fell_back endpoint=%s from=%s to=%s error=%s",
                    self.name, model.name, waiting[0].name, type(exc).__name__,
                )  # fmt: skip

    async def _patiently(
        self, model: ServedModel, call: Call[_T], asked: Asked, has_others: bool
    ) -> AsyncGenerator[_T, None]:
        """As the model says it. Raises EngineTimeout where it says nothing for too long while
        others could be asked."""
        async with aclosing(model.relay(call, asked)) as pieces:
            patience_s = self._traffic.patience_s
            if has_others and patience_s is not None and patience_s < asked.timeout_s:
                try:
                    async with asyncio.timeout(patience_s):
                        first = await anext(pieces)
                except TimeoutError as exc:
                    raise EngineTimeout(model.name, patience_s) from exc
                yield first
            async for piece in pieces:
                yield piece

    def _drawn(self) -> ServedModel:
        at = self._chance() * 100
        for share in self._traffic.shares:
            if (at := at - share.percent) < 0:
                return share.model
        return self._traffic.shares[-1].model

    def _copy(self, call: Call[_T], asked: Asked) -> None:
        shadow = self._traffic.shadow
        if shadow is None or self._chance() * 100 >= shadow.percent:
            return
        if len(self._shadows) >= _SHADOWS_AT_ONCE:
            self._shadow_dropped += 1
            return
        self._shadowed += 1
        task = asyncio.create_task(self._shadow(shadow.model, call, asked))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadow(self, model: ServedModel, call: Call[_T], asked: Asked) -> None:
        own = Asked(asked.prefix, asked.timeout_s, "bulk")
        try:
            async with aclosing(model.relay(call, own)) as pieces:
                async for _ in pieces:
                    pass
        except EngineError as exc:
            self._shadow_failures += 1
            _log.info("shadow_failed model=%s error=%s", model.name, type(exc).__name__)

    def _count(self, piece: object) -> None:
        if self._bucket is not None and (tokens := _tokens_of(piece)):
            self._bucket.take(tokens)


class _Bulk(Relay):
    """An endpoint asked behind all others."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @property
    def info(self) -> GeneratorInfo:
        return self._endpoint.info

    def relay(self, call: Call[_T], asked: Asked) -> AsyncGenerator[_T, None]:
        return self._endpoint.relay(call, Asked(asked.prefix, asked.timeout_s, "bulk"))

    async def close(self) -> None:
        pass


def _tokens_of(piece: object) -> int:
    """Tokens that a piece says the request has taken; 0 where it does not."""
    if isinstance(piece, Completion | CompletionDelta):
        usage = piece.usage
        return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
    if isinstance(piece, bytes) and b'"usage"' in piece:
        usage = orjson.loads(piece).get("usage")
        return int(usage.get("total_tokens", 0)) if isinstance(usage, dict) else 0
    return 0
