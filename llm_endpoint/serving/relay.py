"""An engine that lets others answer: one method to write instead of five."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, TypeVar

from llm_endpoint.errors import EngineAnswerInvalid
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    GeneratorInfo,
    Route,
    TextEngine,
)

_T = TypeVar("_T")
Priority = Literal["reserved", "interactive", "bulk"]
Call = Callable[[TextEngine, float], AsyncGenerator[_T, None]]
"""Asks an engine, which has so many seconds left; yields what it says."""

# Of a prompt that is routed by its prefix; a system prompt with its tools is mostly longer.
_PREFIX_CHARACTERS = 1024
_COUNT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request before it is asked.

    prefix: how its prompt begins. seen: called with each piece that says how many tokens it took.
    """

    prefix: str
    timeout_s: float
    priority: Priority = "interactive"


class Relay(ABC):
    """A TextEngine over `relay`."""

    @property
    @abstractmethod
    def info(self) -> GeneratorInfo: ...

    @abstractmethod
    def relay(self, call: Call[_T], asked: Asked) -> AsyncGenerator[_T, None]:
        """What `call` yields, asked of an engine of its choice. Raises an EngineError."""

    @abstractmethod
    async def close(self) -> None: ...

    async def generate(self, request: GenerationRequest) -> Completion:
        async def call(engine: TextEngine, left_s: float) -> AsyncGenerator[Completion, None]:
            yield await engine.generate(dataclasses.replace(request, timeout_s=left_s))

        return await _only(self.relay(call, _asked_by(request)), self.info.model)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[CompletionDelta, None]:
        def call(engine: TextEngine, left_s: float) -> AsyncGenerator[CompletionDelta, None]:
            return engine.stream(dataclasses.replace(request, timeout_s=left_s))

        async with aclosing(self.relay(call, _asked_by(request))) as deltas:
            async for delta in deltas:
                yield delta

    async def ask(self, route: Route, body: Mapping[str, object], *, timeout_s: float) -> bytes:
        async def call(engine: TextEngine, left_s: float) -> AsyncGenerator[bytes, None]:
            yield await engine.ask(route, body, timeout_s=left_s)

        return await _only(self.relay(call, Asked(_prefix(body), timeout_s)), self.info.model)

    async def ask_stream(
        self, route: Route, body: Mapping[str, object], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        def call(engine: TextEngine, left_s: float) -> AsyncGenerator[bytes, None]:
            return engine.ask_stream(route, body, timeout_s=left_s)

        async with aclosing(self.relay(call, Asked(_prefix(body), timeout_s))) as events:
            async for event in events:
                yield event

    async def count_tokens(self, text: str) -> int:
        async def call(engine: TextEngine, left_s: float) -> AsyncGenerator[int, None]:
            yield await engine.count_tokens(text)

        asked = Asked("", _COUNT_TIMEOUT_S)
        return await _only(self.relay(call, asked), self.info.model)


async def _only(pieces: AsyncGenerator[_T, None], model: str) -> _T:
    async with aclosing(pieces):
        async for piece in pieces:
            return piece
    raise EngineAnswerInvalid(model, "it said nothing")


def _asked_by(request: GenerationRequest) -> Asked:
    prefix = "\n".join(message.content for message in request.messages)[:_PREFIX_CHARACTERS]
    return Asked(prefix, request.timeout_s)


def _prefix(body: Mapping[str, object]) -> str:
    """The beginning of what a body asks, as far as it is text."""
    messages = body.get("messages")
    if isinstance(messages, list):
        texts = [message.get("content") for message in messages if isinstance(message, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))[:_PREFIX_CHARACTERS]
    prompt = body.get("prompt")
    return prompt[:_PREFIX_CHARACTERS] if isinstance(prompt, str) else ""
