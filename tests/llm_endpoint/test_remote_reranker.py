"""The /rerank client against a server that misbehaves on order."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from numpy.typing import NDArray

from llm_endpoint.errors import (
    ContextOverflow,
    EngineAnswerInvalid,
    EngineBusy,
    EngineDied,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from llm_endpoint.rerank.remote import RemoteReranker

TEXTS = ["a", "b", "c"]


def result(index: object, score: object) -> dict[str, object]:
    return {"index": index, "relevance_score": score}


ANSWER = {"results": [result(2, 0.9), result(0, -3), result(1, 0.25)]}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.seen.append((self.path, dict(self.headers), json.loads(self.rfile.read(size))))  # type: ignore[attr-defined]
        self.server.play(self)  # type: ignore[attr-defined]

    def say(self, status: int, body: object) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class FakeServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, str], dict[str, object]]] = []
        self.play: Callable[[Handler], None] = lambda handler: handler.say(200, ANSWER)
        self.hold = threading.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        thread = threading.Thread(target=fake.serve_forever, args=(0.02,))
        thread.start()
        yield fake
        fake.hold.set()
        fake.shutdown()
        thread.join()


def ask(server: FakeServer, *, timeout_s: float = 5.0) -> NDArray[np.float32]:
    reranker = RemoteReranker(server.base_url + "/", "m", api_key="k", timeout_s=timeout_s)
    return asyncio.run(reranker.rerank("q", TEXTS))


def test_scores_come_back_in_the_order_of_the_texts(server: FakeServer) -> None:
    np.testing.assert_array_equal(ask(server), np.float32([-3, 0.25, 0.9]))


def test_the_request_asks_for_every_document_and_carries_the_key(server: FakeServer) -> None:
    ask(server)
    path, headers, body = server.seen[0]
    assert path == "/v1/rerank"
    assert headers["Authorization"] == "Bearer k"
    assert body == {"model": "m", "query": "q", "documents": TEXTS, "top_n": 3}


def test_without_texts_no_server_is_asked(server: FakeServer) -> None:
    got = asyncio.run(RemoteReranker(server.base_url, "m").rerank("q", []))
    assert (got.shape, server.seen) == ((0,), [])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (None, "no list of results"),
        ({"0": 1}, "no list of results"),
        ([result(2, 0.9)], r"left out 2 of 3 documents, first 0"),
        ([*ANSWER["results"], result(1, 0.3)], "scored document 1 twice"),
        ([result(3, 0.9)], "index 3 for 3 documents"),
        ([result(-1, 0.9)], "index -1 for 3 documents"),
        ([result("0", 0.9)], "index '0' for 3 documents"),
        ([result(True, 0.9)], "index True for 3 documents"),
        ([{"relevance_score": 0.9}], "index None for 3 documents"),
        (["first"], "index None for 3 documents"),
        ([result(0, None)], "relevance_score None"),
        ([result(0, "0.9")], "relevance_score '0.9'"),
        ([result(0, True)], "relevance_score True"),
        ([result(0, 1e39)], r"relevance_score 1e\+39"),
    ],
)
def test_an_answer_that_does_not_score_every_text_once_is_refused_by_name(
    server: FakeServer, results: object, message: str
) -> None:
    server.play = lambda handler: handler.say(200, {"results": results})
    with pytest.raises(EngineAnswerInvalid, match=message):
        ask(server)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"message": "invalid api token"}, EngineRefused),
        (422, {"detail": "model not found"}, EngineRefused),
        (429, {"error": {"message": "slow down"}}, EngineBusy),
        (400, {"error": {"message": "maximum context length is 512 tokens"}}, ContextOverflow),
        (500, "boom", EngineFailed),
        (503, "loading", EngineUnavailable),
        (200, "<html>hello</html>", EngineAnswerInvalid),
        (200, "[1]", EngineAnswerInvalid),
    ],
)
def test_every_bad_answer_is_an_error_of_ours(
    server: FakeServer, status: int, body: object, error: type[EngineError]
) -> None:
    server.play = lambda handler: handler.say(status, body)
    with pytest.raises(error) as caught:
        ask(server)
    assert type(caught.value) is error
    assert getattr(caught.value, "status", status) == status


def test_the_servers_words_are_in_the_message(server: FakeServer) -> None:
    server.play = lambda handler: handler.say(401, {"message": "invalid api token"})
    with pytest.raises(EngineRefused, match="invalid api token"):
        ask(server)


def test_silence_ends_at_the_deadline(server: FakeServer) -> None:
    server.play = lambda handler: server.hold.wait(30) and None
    with pytest.raises(EngineTimeout, match=r"within 0\.2 s"):
        ask(server, timeout_s=0.2)


def test_a_connection_cut_inside_an_answer_is_a_death(server: FakeServer) -> None:
    def cut(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")

    server.play = cut
    with pytest.raises(EngineDied):
        ask(server)


def test_nobody_listening_is_unavailable_and_names_the_address() -> None:
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9"):
        asyncio.run(RemoteReranker("http://127.0.0.1:9/v1", "m").rerank("q", TEXTS))


def test_a_closed_reranker_says_so(server: FakeServer) -> None:
    async def close_then_ask() -> None:
        reranker = RemoteReranker(server.base_url, "m")
        await reranker.close()
        await reranker.rerank("q", TEXTS)

    with pytest.raises(EngineUnavailable, match="m is closed"):
        asyncio.run(close_then_ask())
    assert server.seen == []
