"""The HTTP client against a server that misbehaves on order."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
    InvalidText,
)
from llm_endpoint.generation import Completion, GenerationRequest, Message, TokenUsage
from llm_endpoint.generation.openai import OpenAIGenerator

ASK = GenerationRequest((Message("user", "hi"),), max_tokens=5, timeout_s=5.0)
USAGE = {"prompt_tokens": 7, "completion_tokens": 2}
ANSWER = {"choices": [{"message": {"content": "Hi you"}, "finish_reason": "stop"}], "usage": USAGE}


class Handler(BaseHTTPRequestHandler):
    """Does what the test put into the server."""

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.seen.append((self.path, dict(self.headers), json.loads(self.rfile.read(size))))  # type: ignore[attr-defined]
        self.server.play(self)  # type: ignore[attr-defined]

    def say(self, status: int, body: object, *, kind: str = "application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, str], dict[str, object]]] = []
        self.play: Callable[[Handler], None] = lambda handler: handler.say(200, ANSWER)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        thread = threading.Thread(target=fake.serve_forever, args=(0.02,))
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


def event(body: object) -> str:
    return f"data: {json.dumps(body)}\n\n"


def chunk(text: str | None = None, reason: str | None = None) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": reason}]}


def stream_of(*events: str) -> Callable[[Handler], None]:
    return lambda handler: handler.say(200, "".join(events), kind="text/event-stream")


def ask(server: FakeServer, request: GenerationRequest = ASK) -> Completion:
    return asyncio.run(OpenAIGenerator(server.base_url, "m", api_key="k").generate(request))


def read(server: FakeServer, request: GenerationRequest = ASK) -> tuple[str, TokenUsage | None]:
    async def collect() -> tuple[str, TokenUsage | None]:
        deltas = [d async for d in OpenAIGenerator(server.base_url, "m").stream(request)]
        return "".join(delta.text for delta in deltas), deltas[-1].usage

    return asyncio.run(collect())


def test_an_answer_is_decoded(server: FakeServer) -> None:
    assert ask(server) == Completion("Hi you", "stop", TokenUsage(7, 2), "m")


def test_the_request_carries_what_was_asked_and_the_key(server: FakeServer) -> None:
    ask(server, GenerationRequest(ASK.messages, 5, 0.5, ("X",), 3))
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer k"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "temperature": 0.5,
        "stop": ["X"],
        "seed": 3,
    }


def test_a_stream_is_decoded_with_comments_pings_and_line_separators_in_it(
    server: FakeServer,
) -> None:
    server.play = stream_of(
        ": ping\n\n",
        event(chunk("a\u2028b")),
        event(chunk(" c")),
        event(chunk(None, "stop")),
        event({"choices": [], "usage": USAGE}),
        "data: [DONE]\n\n",
    )
    assert read(server) == ("a\u2028b c", TokenUsage(7, 2))


def test_a_stream_without_usage_gets_bounds(server: FakeServer) -> None:
    server.play = stream_of(event(chunk("a")), event(chunk("b", "stop")), "data: [DONE]\n\n")
    assert read(server) == ("ab", TokenUsage(1, 2))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": {"message": "bad temperature"}}, EngineRefused),
        (401, {"error": {"message": "Invalid API Key"}}, EngineRefused),
        (404, "<html>no such page</html>", EngineRefused),
        (429, {"error": {"message": "slow down"}}, EngineBusy),
        (302, "", EngineRefused),
        (500, "boom", EngineFailed),
        (503, {"error": {"message": "Loading model"}}, EngineUnavailable),
        (200, "<html>hello</html>", EngineAnswerInvalid),
        (200, "[1]", EngineAnswerInvalid),
        (200, {"choices": []}, EngineAnswerInvalid),
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
    with pytest.raises(error):
        read(server)


def test_the_engines_words_are_in_the_message(server: FakeServer) -> None:
    server.play = lambda handler: handler.say(400, {"error": {"message": "bad temperature"}})
    with pytest.raises(EngineRefused, match="status 400: bad temperature"):
        ask(server)


def test_an_overflow_in_openais_words_has_the_context_alone(
    server: FakeServer,
) -> None:
    message = "This model's maximum context length is 4096 tokens, you requested 5000"
    server.play = lambda handler: handler.say(400, {"error": {"message": message}})
    with pytest.raises(ContextOverflow) as refusal:
        ask(server)
    assert (refusal.value.prompt_tokens, refusal.value.context_tokens) == (None, 4096)


def test_an_error_event_inside_a_stream_is_raised(server: FakeServer) -> None:
    server.play = stream_of(event(chunk("a")), event({"error": {"code": 500, "message": "boom"}}))
    with pytest.raises(EngineFailed, match="boom"):
        read(server)


def test_a_stream_that_just_ends_is_a_death(server: FakeServer) -> None:
    server.play = stream_of(event(chunk("a")))
    with pytest.raises(EngineDied, match="without a finish reason"):
        read(server)


def test_a_connection_cut_inside_an_answer_is_a_death(server: FakeServer) -> None:
    def cut(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")

    server.play = cut
    with pytest.raises(EngineDied):
        ask(server)


def test_garbage_inside_a_stream_is_named(server: FakeServer) -> None:
    server.play = stream_of(event(chunk("a")), "data: }{\n\n")
    with pytest.raises(EngineAnswerInvalid, match="not JSON"):
        read(server)


@pytest.mark.parametrize("call", [ask, read])
def test_silence_ends_at_the_deadline(
    server: FakeServer, call: Callable[[FakeServer, GenerationRequest], object]
) -> None:
    server.play = lambda handler: time.sleep(1.0)
    started = time.monotonic()
    with pytest.raises(EngineTimeout, match=r"within 0\.2 s"):
        call(server, GenerationRequest(ASK.messages, 5, timeout_s=0.2))
    assert time.monotonic() - started < 0.9


def test_a_slow_drip_ends_at_the_deadline_too(server: FakeServer) -> None:
    def drip(handler: Handler) -> None:
        handler.say(200, "", kind="text/event-stream")
        try:
            for _ in range(30):
                handler.wfile.write(event(chunk("a")).encode())
                time.sleep(0.05)
        except OSError:
            return

    server.play = drip
    with pytest.raises(EngineTimeout):
        read(server, GenerationRequest(ASK.messages, 5, timeout_s=0.3))


def test_nobody_listening_is_unavailable_and_names_the_address(server: FakeServer) -> None:
    generator = OpenAIGenerator("http://127.0.0.1:9/v1", "m")
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9"):
        asyncio.run(generator.generate(ASK))


def test_a_proxy_in_the_environment_is_not_used_for_loopback(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(server).text == "Hi you"


def test_invalid_unicode_is_refused_before_it_is_sent(server: FakeServer) -> None:
    with pytest.raises(InvalidText):
        ask(server, GenerationRequest((Message("user", "a\ud800"),), 5))
    assert server.seen == []


def test_without_a_tokenizer_the_count_is_half_the_bytes() -> None:
    generator = OpenAIGenerator("http://127.0.0.1:9/v1", "m")
    assert asyncio.run(generator.count_tokens("abcde")) == 3


def test_vllm_counts_without_a_start_token(server: FakeServer) -> None:
    server.play = lambda handler: handler.say(200, {"count": 2, "tokens": [1, 2]})
    generator = OpenAIGenerator(server.base_url, "m", dialect="vllm")
    assert asyncio.run(generator.count_tokens("hi you")) == 2
    path, _, body = server.seen[0]
    assert (path, body["prompt"], body["add_special_tokens"]) == ("/tokenize", "hi you", False)
