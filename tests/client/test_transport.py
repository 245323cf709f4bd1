"""The waits that end at the deadline."""

import socket

import httpx2
import pytest

from headrace_client.retries import Deadline
from headrace_client.transport import RemainingTimeouts, cut_at


class Stream:
    """What httpx2 hands out as a response's network stream."""

    def __init__(self, connection):
        self.connection = connection

    def get_extra_info(self, name):
        return {"socket": self.connection}[name]


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def response(connection):
    return httpx2.Response(200, extensions={"network_stream": Stream(connection)})


def test_a_read_without_a_timeout_of_its_own_ends_at_the_deadline(pair):
    ours, _ = pair
    with cut_at(Deadline(0.1), response(ours)):
        assert ours.recv(1) == b""


def test_a_connection_that_was_left_in_time_stays_open_past_the_deadline(pair):
    ours, theirs = pair
    deadline = Deadline(0.05)
    with cut_at(deadline, response(ours)):
        pass
    theirs.settimeout(0.2)
    with pytest.raises(TimeoutError):
        theirs.recv(1)


def test_every_wait_gets_what_is_left_when_it_begins():
    now = [0.0]
    timeouts = RemainingTimeouts(Deadline(5.0, clock=lambda: now[0]))
    assert (timeouts.get("connect"), dict(timeouts)["read"]) == (5.0, 5.0)
    now[0] = 3.0
    assert timeouts.get("read") == 2.0
    now[0] = 9.0
    assert 0 < timeouts.get("read") < 0.01
