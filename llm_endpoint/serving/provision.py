"""Tokens a second that an endpoint may write: a bucket that fills at that rate."""

from collections.abc import Callable
from dataclasses import dataclass

# So many seconds' worth may be used at once after a pause.
_BUCKET_S = 2.0


@dataclass(frozen=True, slots=True)
class Provision:
    """tokens_per_s: of prompt and answer together. may_burst: whether more is answered too, behind
    everybody else's requests, or refused."""

    tokens_per_s: float
    may_burst: bool = True


class TokenBucket:
    """Of one event loop. A request's tokens are known when it is done: a bucket may go below zero,
    and the next request waits until it is filled again."""

    def __init__(self, tokens_per_s: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = tokens_per_s, clock
        self._held = self._most = tokens_per_s * _BUCKET_S
        self._at = clock()

    @property
    def empty_for_s(self) -> float:
        """Seconds until there is a token again; 0 while there are."""
        self._fill()
        return max(0.0, -self._held / self._rate)

    def take(self, tokens: int) -> None:
        self._fill()
        self._held -= tokens

    def _fill(self) -> None:
        now = self._clock()
        self._held = min(self._most, self._held + (now - self._at) * self._rate)
        self._at = now
