"""Both clients when the server is not there, full, hanging, cut off, or no Headrace at all."""

import json
from datetime import UTC, datetime

import pytest

from headrace_client import (
    ConnectionLost,
    DeadlineExceeded,
    InvalidField,
    NotFound,
    Overloaded,
    RetryPolicy,
    ServerFailed,
    ServerUnreachable,
    Unavailable,
    UnexpectedResponse,
)

QUESTION = "which module reads csv tabular data"
JSON = [(b"content-type", b"application/json")]
HTML = [(b"content-type", b"text/html")]
EVENTS = [(b"content-type", b"text/event-stream")]
DELTA = b'data: {"type": "delta", "text": "one"}\n\n'
QUICK = RetryPolicy(first_pause_s=0.01, longest_pause_s=0.02)


def ask_all(client):
    """The three calls that are repeated, as functions."""
    yield lambda: client.query(QUESTION)
    yield lambda: client.search(QUESTION, index="docs")
    yield lambda: list(client.stream(QUESTION))


def test_a_server_that_is_down_is_unreachable_by_its_address(connect, url):
    client = connect(url, retries=RetryPolicy(3, 0.0, 0.0))
    for ask in ask_all(client):
        with pytest.raises(ServerUnreachable, match=url):
            ask()
    with pytest.raises(ServerUnreachable):
        client.health()
    assert not client.is_ready()


def test_a_server_that_comes_up_before_the_deadline_answers(connect, url, late):
    client = connect(url)
    with pytest.raises(ServerUnreachable):
        client.health()
    late(0.3)
    assert client.query(QUESTION).is_known


def test_a_stream_asked_of_a_server_that_comes_up_is_whole(connect, url, late):
    late(0.3)
    *deltas, answer = connect(url).stream(QUESTION)
    assert (len(deltas), answer.is_known) == (10, True)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_full_is_asked_again_after_the_time_it_says(
    refusing, connect, url, status
):
    with refusing(status=status, times=2, headers=[(b"retry-after", b"0")]) as gate:
        for ask in ask_all(connect(url, retries=QUICK)):
            gate.seen = 0
            assert ask()
            assert gate.seen == 3


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(refusing, connect, url):
    # An hour: with the wait, this test would not end.
    headers = [*JSON, (b"retry-after", b"3600")]
    body = b'{"error": {"message": "full", "type": "t", "param": null, "code": "overloaded"}}'
    with (
        refusing(status=429, times=1, headers=headers, body=body) as gate,
        pytest.raises(Overloaded) as caught,
    ):
        connect(url).query(QUESTION)
    assert (caught.value.retry_after_s, caught.value.code, gate.seen) == (3600.0, "overloaded", 1)


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (500, ServerFailed)])
def test_what_repeating_does_not_mend_is_said_at_once(refusing, connect, url, status, error):
    with refusing(status=status, times=99, headers=HTML, body=b"<h1>Oops</h1>") as gate:
        client = connect(url)
        for ask in ask_all(client):
            with pytest.raises(error, match="without saying why: '<h1>Oops"):
                ask()
    assert gate.seen == 3


def test_tries_can_be_limited(refusing, connect, url):
    with refusing(times=99) as gate, pytest.raises(Unavailable):
        connect(url, retries=RetryPolicy(3, 0.0, 0.0)).query(QUESTION)
    assert gate.seen == 3


def test_a_model_that_died_before_the_first_piece_is_asked_again(headrace):
    *deltas, answer = headrace.stream(QUESTION, chain="dies_at_once")
    assert (len(deltas), answer.is_known) == (10, True)


def test_a_stream_is_not_repeated_once_an_event_was_delivered(refusing, connect, url):
    with refusing() as gate, pytest.raises(Unavailable):
        list(connect(url).stream(QUESTION, chain="dies"))
    assert gate.seen == 1


@pytest.mark.parametrize("chain", ["hangs", "drips"])
def test_a_model_that_is_not_done_in_time_is_a_deadline_and_is_left_alone(headrace, served, chain):
    with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
        headrace.query(QUESTION, chain=chain, timeout_s=0.5)
    # The server's model hangs for 60 s and drips for 200.
    assert served.generators[chain].ended.wait(30)


@pytest.mark.parametrize("chain", ["hangs", "drips"])
def test_the_deadline_ends_a_stream_between_pieces(headrace, served, chain):
    events = headrace.stream(QUESTION, chain=chain, timeout_s=0.5)
    next(events)
    with pytest.raises(DeadlineExceeded):
        for _ in events:
            pass
    assert served.generators[chain].ended.wait(30)
    # The client is as good as new.
    assert headrace.query(QUESTION).is_known


def test_a_server_that_breaks_off_its_health_is_not_ready(refusing, connect, url):
    with refusing(times=1, status=200, is_cut=True):
        assert not connect(url).is_ready()


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        (HTML, b"<html>Welcome</html>", "not JSON .*'<html>Welcome"),
        (JSON, b'{"answer": ', "not JSON"),
        (JSON, b"\xff\xfe", "not JSON"),
        (JSON, b"[]", r"is not an object but \[\]"),
        ([*JSON, (b"content-encoding", b"gzip")], b"not gzip", "cannot be read"),
    ],
)
def test_what_is_not_headrace_is_said_to_be_so(refusing, connect, url, headers, body, words):
    with refusing(times=99, status=200, headers=headers, body=body) as gate:
        client = connect(url)
        for ask in (lambda: client.query("q"), lambda: client.search("q", index="i"),
                    client.health, client.is_ready):  # fmt: skip
            with pytest.raises(UnexpectedResponse, match=words):
                ask()
        with pytest.raises(UnexpectedResponse, match="text/event-stream"):
            list(client.stream("q"))
    assert gate.seen == 5


def test_a_redirect_is_not_followed_with_the_key(refusing, connect, url):
    headers = [(b"location", b"https://elsewhere.example/login")]
    with (
        refusing(times=1, status=307, headers=headers) as gate,
        pytest.raises(UnexpectedResponse, match=r"307 to https://elsewhere\.example"),
    ):
        connect(url, api_key="k").query("q")
    assert gate.seen == 1


@pytest.mark.parametrize(
    ("lines", "delivered", "error"),
    [
        (DELTA, 1, ConnectionLost),
        (DELTA + b"data: [DONE]\n\n", 1, ConnectionLost),
        (DELTA + b"data: {oops\n\n", 1, UnexpectedResponse),
        (DELTA + b'data: {"type": "answer", "answer": {}}\n\n', 1, InvalidField),
        (b"", 0, ConnectionLost),
        (b'data: {"type": "heartbeat"}\n\n: comment\n\n' + DELTA, 1, ConnectionLost),
    ],
)
def test_a_stream_that_does_not_end_in_an_answer_is_an_error(
    refusing, connect, url, lines, delivered, error
):
    with refusing(times=99, status=200, headers=EVENTS, body=lines) as gate:
        events = connect(url).stream("q")
        for _ in range(delivered):
            assert next(events).text == "one"
        with pytest.raises(error):
            next(events)
    assert gate.seen == 1


@pytest.mark.parametrize(
    ("ask", "headers"),
    [(lambda c: c.query("q"), JSON), (lambda c: list(c.stream("q")), EVENTS)],
    ids=["query", "stream"],
)
def test_a_response_cut_in_the_middle_is_a_lost_connection(refusing, connect, url, ask, headers):
    with (
        refusing(times=99, status=200, headers=headers, body=DELTA, is_cut=True) as gate,
        pytest.raises(ConnectionLost, match=url),
    ):
        ask(connect(url))
    assert gate.seen == 1


def test_a_stream_cut_after_its_answer_is_whole(refusing, connect, url, answer_form):
    event = b"data: " + json.dumps({"type": "answer", "answer": answer_form}).encode() + b"\n\n"
    with refusing(times=1, status=200, headers=EVENTS, body=event, is_cut=True):
        (answer,) = connect(url).stream("q")
    assert answer.id == "ans_1"


def test_fields_of_a_newer_server_are_ignored(refusing, connect, url, answer_form):
    newer = {**answer_form, "mood": "good", "usage": {**answer_form["usage"], "cached": 3}}
    with refusing(times=1, status=200, headers=JSON, body=json.dumps(newer).encode()):
        answer = connect(url).query("q")
    assert answer.version.created_at == datetime(2026, 11, 24, tzinfo=UTC)
    assert answer.lag is None


def test_readiness_that_is_not_headraces_is_an_api_error(refusing, connect, url):
    with refusing(times=99, status=503, headers=HTML, body=b"no backend"):
        client = connect(url)
        with pytest.raises(Unavailable, match="no backend"):
            client.health()
        assert not client.is_ready()
