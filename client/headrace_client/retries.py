"""How long a call may take, and whether and when it is tried again. No I/O, no sleeping.

Every call of this client is a read, so repeating one is always safe. The pause is exponential
back-off with full jitter (a uniform draw from 0 to the bound): clients that failed together do
not come back together. The server's Retry-After is waited in full before it.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from headrace_client.errors import (
    ApiError,
    DeadlineExceeded,
    HeadraceError,
    InvalidSetting,
    Overloaded,
    ServerUnreachable,
    Unavailable,
)

_RETRIED = (ServerUnreachable, Overloaded, Unavailable)
# A try that gets less than this would only say that time is up, not what is wrong.
_SHORTEST_TRY_S = 0.01
# 2.0 ** 1024 overflows; any bound is reached long before this.
_MAX_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """max_tries: with the first one, 1 never repeats; None: until the deadline.

    The pause before try n + 1 is drawn from 0 to min(longest, first * 2 ** (n - 1)).
    Raises InvalidSetting.
    """

    max_tries: int | None = None
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0

    def __post_init__(self) -> None:
        if self.max_tries is not None and self.max_tries < 1:
            raise InvalidSetting(f"max_tries is {self.max_tries}; give at least 1, or None")
        if not 0 <= self.first_pause_s <= self.longest_pause_s:
            raise InvalidSetting(
                f"first_pause_s is {self.first_pause_s:g}; it must be between 0 and "
                f"longest_pause_s, which is {self.longest_pause_s:g}"
            )

    def longest_pause_after(self, tries: int) -> float:
        """The bound of the pause after this many tries, in seconds."""
        doublings = min(tries - 1, _MAX_DOUBLINGS)
        return min(self.longest_pause_s, self.first_pause_s * 2.0**doublings)


class Deadline:
    """The moment at which a call ends, `timeout_s` after it was built."""

    def __init__(self, timeout_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises InvalidSetting."""
        if not 0 < timeout_s < float("inf"):
            raise InvalidSetting(f"timeout_s is {timeout_s!r}; give a number of seconds above 0")
        self.timeout_s = timeout_s
        self._clock = clock
        self._ends_at = clock() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds to go, 0.0 when it has passed."""
        return max(0.0, self._ends_at - self._clock())

    def exceeded(self) -> DeadlineExceeded:
        """The error that says so."""
        return DeadlineExceeded(self.timeout_s)


class Tries:
    """The tries of one call."""

    def __init__(
        self,
        policy: RetryPolicy,
        deadline: Deadline,
        *,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.deadline = deadline
        self._policy = policy
        self._draw = draw
        self._failed = 0

    def pause_after(self, error: HeadraceError) -> float:
        """Seconds to wait before the next try.

        Raises the error itself where repeating does not help or the deadline leaves no room: it
        says more than that time is up.
        """
        self._failed += 1
        if not isinstance(error, _RETRIED) or self._failed == self._policy.max_tries:
            raise error
        pause_s = self._draw(0.0, self._policy.longest_pause_after(self._failed))
        if isinstance(error, ApiError):
            pause_s += error.retry_after_s or 0.0
        if pause_s + _SHORTEST_TRY_S > self.deadline.left_s:
            raise error
        return pause_s


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds from a Retry-After header (seconds or an HTTP date), None for none or nonsense."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    # RFC 9110 dates are in GMT; one that says "-0000" is parsed without a zone.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
