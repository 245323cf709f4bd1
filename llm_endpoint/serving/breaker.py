"""A circuit breaker: an engine that fails again and again is left alone, and tried now and then."""

from collections.abc import Callable
from dataclasses import dataclass

from llm_endpoint.errors import (
    CircuitOpen,
    EngineAnswerInvalid,
    EngineDied,
    EngineError,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
)

# A refusal or a full queue is an answer of a healthy engine.
_FAILURES = (EngineUnavailable, EngineDied, EngineTimeout, EngineFailed, EngineAnswerInvalid)


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """failures: in a row, after which the circuit opens; open_s: until a request is let by to see
    whether the engine is well again, one at a time."""

    failures: int = 5
    open_s: float = 2.0


class Breaker:
    """Of one model, in one event loop. `clock`: seconds, never going back."""

    def __init__(self, model: str, limits: BreakerLimits, clock: Callable[[], float]) -> None:
        self._model, self._limits, self._clock = model, limits, clock
        self._failures = 0
        self._tried_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limits.failures

    def let_by(self) -> None:
        """Raises CircuitOpen while the engine is left alone."""
        if not self.is_open:
            return
        now, last = self._clock(), self._tried_at
        assert last is not None
        if now < last + self._limits.open_s:
            left_s = last + self._limits.open_s - now
            raise CircuitOpen(self._model, self._failures, left_s)
        # This one is the probe; the others wait for what it says, or for the next.
        self._tried_at = now

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: EngineError) -> None:
        """Of a request that was let by."""
        if isinstance(error, CircuitOpen) or not isinstance(error, _FAILURES):
            return
        self._failures += 1
        self._tried_at = self._clock()
