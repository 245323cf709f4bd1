"""When a call is repeated, and how long is waited, with a clock and dice of our own."""

from datetime import UTC, datetime

import pytest

from headrace_client import (
    ApiError,
    ConnectionLost,
    DeadlineExceeded,
    InvalidSetting,
    Overloaded,
    RetryPolicy,
    ServerFailed,
    ServerUnreachable,
    Unavailable,
    UnexpectedResponse,
)
from headrace_client.retries import Deadline, Tries, parse_retry_after


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def tries(clock, *, timeout_s=60.0, draw=lambda low, high: high, **policy):
    return Tries(RetryPolicy(**policy), Deadline(timeout_s, clock=clock), draw=draw)


def test_the_bound_of_the_pause_doubles_up_to_the_longest(clock):
    running = tries(clock, first_pause_s=0.1, longest_pause_s=1.0)
    pauses = [running.pause_after(ServerUnreachable("x")) for _ in range(6)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert RetryPolicy().longest_pause_after(5000) == 5.0


def test_the_pause_is_drawn_from_zero_to_its_bound(clock):
    drawn = []
    running = tries(clock, draw=lambda low, high: drawn.append((low, high)) or 0.03)
    assert running.pause_after(ServerUnreachable("x")) == 0.03
    assert drawn == [(0.0, 0.1)]


@pytest.mark.parametrize(("error", "status"), [(Overloaded, 429), (Unavailable, 503)])
def test_retry_after_is_waited_in_full_before_the_jitter(clock, error, status):
    told = error(status, "full", None, None, 7.0)
    assert tries(clock).pause_after(told) == pytest.approx(7.1)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("x"),
        DeadlineExceeded(1.0),
        UnexpectedResponse("x"),
        ServerFailed(500, "x"),
        ServerFailed(504, "x"),
        ApiError(400, "x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_repeating_does_not_mend_is_raised_as_it_is(clock, error):
    with pytest.raises(type(error)) as caught:
        tries(clock).pause_after(error)
    assert caught.value is error


def test_a_pause_that_the_deadline_has_no_room_for_raises_the_error_instead(clock):
    running = tries(clock, timeout_s=10.0)
    told = Overloaded(429, "full", None, None, 5.0)
    assert running.pause_after(told) == pytest.approx(5.1)
    clock.now += 5.1
    with pytest.raises(Overloaded):
        running.pause_after(told)


def test_a_deadline_runs_out_and_stays_at_zero(clock):
    deadline = Deadline(2.0, clock=clock)
    clock.now += 1.5
    assert deadline.left_s == 0.5
    clock.now += 1.0
    assert deadline.left_s == 0.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 12 ", 12.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 12:00:30 -0000", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("-3", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert parse_retry_after(value, now=datetime(2026, 11, 24, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    "policy", [{"max_tries": 0}, {"first_pause_s": -1.0}, {"first_pause_s": 9.0}]
)
def test_a_policy_that_makes_no_sense_is_refused(policy):
    with pytest.raises(InvalidSetting):
        RetryPolicy(**policy)
