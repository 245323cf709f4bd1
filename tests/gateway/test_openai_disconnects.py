"""Clients that leave a real model: its slots and the server's tasks are free again.

tests/headrace/test_openai_faults.py does the same two hundred times with an engine that only
pretends to write, and looks at file descriptors.
"""

import asyncio
import contextlib
import threading
import time

import httpx2
import pytest
import uvicorn

from gateway import Backend, create_app
from gateway.openai.models import ServedModels
from llm_endpoint import find_card
from llm_endpoint.generation.llama_cpp import LlamaCppGenerator
from vector_index.passages import Access

CLIENTS = 24
LONG = {"model": "m", "max_tokens": 450, "ignore_eos": True,
        "messages": [{"role": "user", "content": "Tell a long story of a river."}]}  # fmt: skip


class Server:
    """The gateway on a loop of its own, in a thread of this process."""

    def __init__(self, engine):
        models = ServedModels(generators={"m": engine})
        backend = Backend({}, {}, Access("t", frozenset()), dict, index=None, models=models)
        app = create_app(backend, max_body_bytes=10_000, max_in_flight=64)
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        self._engine = engine
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def _run(self):
        self._loop = asyncio.get_running_loop()
        await self._server.serve()
        await self._engine.close()

    def tasks(self):
        return len(asyncio.all_tasks(self._loop))

    def stop(self):
        self._server.should_exit = True
        self._thread.join()


def until(is_so, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(0.01)


@pytest.fixture
def engine(weights_dir, tmp_path):
    card = find_card("smollm2-135m-instruct-q4_1")
    engine = LlamaCppGenerator(
        weights_dir / card.name / card.main_file,
        model="m", weights_sha256=card.weights_sha256, context_tokens=512, parallel=2,
        log_file=tmp_path / "engine.log",
    )  # fmt: skip
    engine.start()
    engine.wait_ready(60)
    return engine


@pytest.fixture
def server(engine):
    server = Server(engine)
    yield server
    server.stop()


def is_idle(engine):
    headers = {"authorization": f"Bearer {engine.endpoint.api_key}"}
    slots = httpx2.get(f"{engine.endpoint.address}/slots", headers=headers).json()
    return not any(slot["is_processing"] for slot in slots)


async def leave(port, body, *, after_an_event):
    patience_s = 30 if after_an_event else 0.4
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(patience_s),
                http.stream("POST", "/v1/chat/completions", json=body) as response,
            ):
                if after_an_event:
                    await anext(response.aiter_lines())
                else:
                    await response.aread()


async def leave_often(port):
    ways = [({**LONG, "stream": True}, True), ({**LONG, "stream": True}, False), (LONG, False)]
    for start in range(0, CLIENTS, 6):
        await asyncio.gather(
            *(
                leave(port, body, after_an_event=after)
                for body, after in (ways[n % len(ways)] for n in range(start, start + 6))
            )
        )


def test_clients_that_left_hold_no_slot_of_the_model_and_no_task_of_the_server(server, engine):
    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as http:
        short = {**LONG, "max_tokens": 2}
        http.post("/v1/chat/completions", json=short).raise_for_status()
    until(lambda: is_idle(engine))
    before = server.tasks()
    asyncio.run(leave_often(server.port))
    until(lambda: is_idle(engine))
    until(lambda: server.tasks() <= before)
    body = {**short, "stream": True}
    answer = httpx2.post(
        f"http://127.0.0.1:{server.port}/v1/chat/completions", json=body, timeout=60
    )
    assert answer.text.endswith("data: [DONE]\n\n")
