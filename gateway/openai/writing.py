"""What chat and plain completions share: bounds before the engine, events after it."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import orjson

from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.forms import WritingForm
from llm_endpoint.errors import ContextOverflow, EngineAnswerInvalid, EngineRefused
from llm_endpoint.generation import GeneratorInfo, OpenAIEngine, Route

# Engines that write several answers to one prompt.
_MANY_CHOICES = frozenset({"vllm", "openai"})
# Other 4xx (a wrong key, a wrong path) are about how we ask, not about what is asked.
_CLIENTS_FAULT = (400, 413, 422)
# What every event of an answer says alike.
_HEAD = ("id", "object", "created", "model", "system_fingerprint")


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to an engine, checked. Answers name the model as the body does."""

    engine: OpenAIEngine
    route: Route
    body: Mapping[str, object]
    timeout_s: float
    with_usage: bool = False

    async def whole(self) -> bytes:
        """The answer in one piece."""
        with _refusals():
            made = await self.engine.ask(self.route, self.body, timeout_s=self.timeout_s)
        return orjson.dumps({**self._decoded(made), "model": self.body["model"]})

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer in events; the usage, where it was asked for, in one of its own at the end."""
        asked = self.engine.ask_stream(self.route, self.body, timeout_s=self.timeout_s)
        with _refusals():
            async with aclosing(asked) as events:
                async for event in events:
                    for form in self._parts(self._decoded(event)):
                        yield orjson.dumps(form)

    def _parts(self, form: dict[str, object]) -> Iterator[dict[str, object]]:
        form["model"] = self.body["model"]
        usage = form.pop("usage", None)
        if form.get("choices") or not usage:
            yield form
            form = {key: form[key] for key in _HEAD if key in form}
        if usage and self.with_usage:
            yield {**form, "choices": [], "usage": usage}

    def _decoded(self, data: bytes) -> dict[str, object]:
        try:
            form = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise EngineAnswerInvalid(self.engine.info.model, f"not JSON: {data[:80]!r}") from exc
        if not isinstance(form, dict):
            raise EngineAnswerInvalid(self.engine.info.model, f"not an object: {data[:80]!r}")
        return form


def check_bounds(form: WritingForm, most: int | None, info: GeneratorInfo) -> None:
    """Raises InvalidRequest for what this engine cannot give. most: tokens asked for."""
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
