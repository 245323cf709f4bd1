"""OpenAI's client, `headrace serve` and an engine that goes wrong on order, a process each."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time

import httpx2
import openai
import psutil
import pytest

TIMEOUT_S = 2
ASKED = {"model": "faulty", "messages": [{"role": "user", "content": "Go."}], "max_tokens": 8}


class Engine:
    """The engine's process, and what is ordered of it."""

    def __init__(self):
        program = [sys.executable, "-m", "llm_endpoint.generation.faulty"]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        addresses = json.loads(self.process.stdout.readline())
        self.base_url = addresses["engine"]
        self.control = httpx2.Client(base_url=addresses["control"])

    def behave(self, mode, **how):
        self.control.post("/", json={"mode": mode, "word_s": 0.0, **how}).raise_for_status()

    def state(self):
        return self.control.get("/").json()

    def stop(self):
        self.control.close()
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def engine():
    engine = Engine()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def world(engine, serve_models):
    model = (
        f'  faulty: {{task: generation, engine: openai, base_url: "{engine.base_url}", model: m,'
        " serving: {breaker: {failures: 1000}}}"
    )
    return serve_models(model, HEADRACE_GATEWAY__TIMEOUT_S=str(TIMEOUT_S))


@pytest.fixture
def client(world):
    url = f"http://127.0.0.1:{world.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", timeout=30, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("mode", "error", "status", "code"),
    [
        ("refuse", openai.InternalServerError, 503, "model_unavailable"),
        ("reject", openai.BadRequestError, 400, "refused_by_engine"),
        ("busy", openai.RateLimitError, 429, "model_busy"),
        ("fail", openai.InternalServerError, 502, "model_failed"),
        ("hang", openai.InternalServerError, 504, "model_timeout"),
        ("slow", openai.InternalServerError, 504, "model_timeout"),
        ("garbage", openai.InternalServerError, 502, "model_failed"),
    ],
)
def test_a_fault_before_the_first_byte_is_the_clients_exception_for_it(
    engine, client, mode, error, status, code, streams
):
    engine.behave(mode, slow_s=9 * TIMEOUT_S)
    started = time.monotonic()
    with pytest.raises(error) as raised:
        client.chat.completions.create(**ASKED, stream=streams)
    print(f"{mode}: {time.monotonic() - started:.2f} s")
    assert (raised.value.status_code, raised.value.code) == (status, code)
    if mode == "busy":
        assert raised.value.response.headers["retry-after"] == "7"
    engine.behave("ok")
    assert client.chat.completions.create(**ASKED).choices[0].message.content == "word " * 8


@pytest.mark.parametrize(("mode", "code"), [("stall", "model_timeout"), ("die", "model_died")])
def test_a_fault_in_the_middle_is_an_error_with_the_pieces_before_it(engine, client, mode, code):
    engine.behave(mode)
    pieces = []
    started = time.monotonic()
    with (
        client.chat.completions.create(**ASKED, stream=True) as stream,
        pytest.raises(openai.APIError) as raised,
    ):
        pieces.extend(chunk.choices[0].delta.content for chunk in stream)
    print(f"{mode}: {time.monotonic() - started:.2f} s")
    assert raised.value.code == code
    with pytest.raises(openai.InternalServerError) as whole:
        client.chat.completions.create(**ASKED)
    assert whole.value.code == code
    # Of a response the error is an event like any other; the client raises nothing.
    *_, last = client.responses.create(model="faulty", input="Go.", stream=True)
    assert (last.type, last.code) == ("error", code)


def test_a_client_that_waits_less_than_the_server_has_its_own_timeout(engine, client):
    engine.behave("hang")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).chat.completions.create(**ASKED)


async def leave(http, body, after):
    """Asks, and closes the connection before an answer, after the first event, or half-way."""
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        if after == "first event":
            await anext(response.aiter_lines())
        else:
            await response.aread()


async def leave_often(port, count):
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=30, limits=limits
    ) as http:
        ways = [
            ({**ASKED, "max_tokens": 1000, "stream": True}, "first event", 30),
            ({**ASKED, "max_tokens": 1000, "stream": True}, "nothing", 0.3),
            ({**ASKED, "max_tokens": 1000}, "nothing", 0.3),
        ]

        async def one(number):
            body, after, patience_s = ways[number % len(ways)]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leave(http, body, after), patience_s)

        for start in range(0, count, 20):
            await asyncio.gather(*(one(n) for n in range(start, min(start + 20, count))))


def until(is_so, timeout_s=30):
    """Seconds until it was so."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < timeout_s, "it never was so"
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.parametrize("mode", ["ok", "hang"])
def test_two_hundred_clients_that_leave_leave_nothing_behind(engine, world, mode):
    engine.behave("ok")
    world.http.post("/v1/chat/completions", json=ASKED).raise_for_status()
    server = psutil.Process(world.process.pid)
    until(lambda: engine.state()["open"] == 0)
    before, files = engine.state(), server.num_fds()
    engine.behave(mode, word_s=0.02)
    asyncio.run(leave_often(world.port, 200))
    print("upstream ended", until(lambda: engine.state()["open"] == 0))
    print("files", until(lambda: server.num_fds() <= files))
    after = engine.state()
    assert after["abandoned"] - before["abandoned"] >= 190
    engine.behave("ok")
    assert world.http.post("/v1/chat/completions", json=ASKED).status_code == 200
