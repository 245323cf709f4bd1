"""What a generator is, whatever engine writes the text."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from llm_endpoint.errors import EngineUnavailable


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """`timeout_s` bounds everything: waiting for the engine, the prompt, the last token."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TokenUsage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """`finish_reason` is "stop" (done or a stop string) or "length" (out of tokens)."""

    text: str
    finish_reason: str
    usage: TokenUsage
    model: str


@dataclass(frozen=True, slots=True)
class CompletionDelta:
    """A piece of the answer. Only the last one has `finish_reason` and `usage`."""

    text: str
    finish_reason: str | None = None
    usage: TokenUsage | None = None


@dataclass(frozen=True, slots=True)
class GeneratorInfo:
    """`context_tokens` is what one request may use, prompt and answer together.

    `weights_sha256` is None where the weights are not ours to see (a remote server).
    takes_tools: False where the model's chat template has no place for them, so that an engine
    would leave them out in silence.
    """

    model: str
    engine: str
    context_tokens: int
    weights_sha256: str | None
    takes_tools: bool = True


class Generator(Protocol):
    """Messages in, text out. Raises the EngineError tree, within the request's timeout."""

    @property
    def info(self) -> GeneratorInfo: ...

    async def generate(self, request: GenerationRequest) -> Completion: ...

    def stream(self, request: GenerationRequest) -> AsyncGenerator[CompletionDelta, None]:
        """The answer as it is written; the deltas' texts joined are the answer.

        Close it (`contextlib.aclosing`) when you stop reading early: that frees the engine.
        """
        ...

    async def count_tokens(self, text: str) -> int:
        """Tokens in `text` alone, without chat template. Each engine says if exact or a bound."""
        ...

    async def close(self) -> None: ...


Route = Literal["chat/completions", "completions"]
"""What of OpenAI's API an engine answers, as a path below its base URL."""


class OpenAIEngine(Protocol):
    """An engine asked in OpenAI's own words, for all that a GenerationRequest has no field for.

    The body goes to the engine as it is, but for `model` and `stream`, which are the engine's, and
    control tokens inside messages, which lose their power. Tools, response formats and log
    probabilities pass through; what the engine does not know it refuses or ignores.
    """

    @property
    def info(self) -> GeneratorInfo: ...

    async def ask(self, route: Route, body: Mapping[str, object], *, timeout_s: float) -> bytes:
        """The engine's answer, a JSON object. Raises an EngineError within `timeout_s`."""
        ...

    def ask_stream(
        self, route: Route, body: Mapping[str, object], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        """The JSON object of each event, without the final [DONE]; the last one has the usage.

        Close it (`contextlib.aclosing`) when you stop reading early: that frees the engine.
        Raises an EngineError within `timeout_s`, before the first event or after any.
        """
        ...


class TextEngine(Generator, OpenAIEngine, Protocol):
    """Both at once, as every engine of ours is."""


@runtime_checkable
class LocalEngine(Protocol):
    """A generator whose engine runs on this machine: it is started, and takes a while to be up."""

    def start(self) -> None:
        """Return at once; the engine comes up in the background. A second call does nothing."""
        ...

    def is_ready(self) -> bool:
        """True while requests are answered without waiting for the engine."""
        ...

    def unavailable(self, waited_s: float) -> EngineUnavailable:
        """The error that says why the engine is not ready after so long."""
        ...


@runtime_checkable
class SleepingEngine(Protocol):
    """An engine that can give most of its memory back and take it again, sooner than it starts."""

    @property
    def can_sleep(self) -> bool:
        """Whether this one can: not every build of an engine does."""
        ...

    @property
    def is_asleep(self) -> bool: ...

    async def sleep(self) -> None:
        """Returns when the memory is given back. Nothing may be under way. Raises EngineError."""
        ...

    async def wake(self) -> None:
        """Returns when requests are answered again. Raises EngineError."""
        ...
