"""What chat and plain completions share: bounds before the engine, events after it."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import orjson

from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.forms import WritingForm
from llm_endpoint.errors import ContextOverflow, EngineRefused
from llm_endpoint.generation import OpenAIEngine, Route

# Engines that write several answers to one prompt.
_MANY_CHOICES = frozenset({"vllm", "openai"})
# Other 4xx (a wrong key, a wrong path) are about how we ask, not about what is asked.
_CLIENTS_FAULT = (400, 413, 422)
# They say who asks and why, and change no token of the answer.
HARMLESS = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to an engine, checked."""

    engine: OpenAIEngine
    route: Route
    body: Mapping[str, object]
    timeout_s: float
    with_usage: bool = False

    async def whole(self) -> bytes:
        """The answer in one piece."""
        with _refusals():
            return await self.engine.ask(self.route, self.body, timeout_s=self.timeout_s)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer in events; the one with the usage only where it was asked for."""
        asked = self.engine.ask_stream(self.route, self.body, timeout_s=self.timeout_s)
        with _refusals():
            async with aclosing(asked) as events:
                async for event in events:
                    if self.with_usage or b'"usage"' not in event:
                        yield event
                    elif (rest := _without_usage(event)) is not None:
                        yield rest


def check_bounds(form: WritingForm, most: int | None, engine: OpenAIEngine) -> None:
    """Raises InvalidRequest for what this engine cannot give. most: tokens asked for."""
    info = engine.info
    if most is not None and most > info.context_tokens:
        raise InvalidRequest(
            "max_tokens",
            f"{most} tokens are more than the context of {form.model} holds, which is "
            f"{info.context_tokens} for prompt and answer together",
            code="context_length_exceeded",
        )
    if form.n is not None and form.n > 1 and info.engine not in _MANY_CHOICES:
        raise Unsupported(
            "n", f"is {form.n}; {form.model} ({info.engine}) writes one answer at a time, ask again"
        )
    if form.stream_options is not None and not form.stream:
        raise InvalidRequest("stream_options", "is only allowed with stream: true")


def wants_usage(form: WritingForm) -> bool:
    return bool(form.stream_options and form.stream_options.include_usage)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raises InvalidRequest for what the engine says is wrong with the request itself."""
    try:
        yield
    except ContextOverflow:
        raise
    except EngineRefused as exc:
        if exc.status not in _CLIENTS_FAULT:
            raise
        raise InvalidRequest("body", str(exc), code="refused_by_engine") from exc


def _without_usage(event: bytes) -> bytes | None:
    """The event less its usage; None where it had nothing else to say."""
    form = orjson.loads(event)
    form.pop("usage", None)
    return orjson.dumps(form) if form.get("choices") else None
