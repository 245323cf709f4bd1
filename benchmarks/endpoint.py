"""Through our endpoint against the engine asked directly: the same llama.cpp child, in turn.

The client streams chats of 64 tokens at 1, 4 and 16 at once, by the engine's own address and by
`/v1/chat/completions` (gateway, served model with its queue, endpoint) of a server in this process.
Tokens a second of all streams together, ours over direct (goal: 0.97), and the time to the first
piece of one stream alone, ours less direct (goal: 3 ms, p50). Five rounds; median and spread.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import uvicorn

from gateway import Backend, create_app
from gateway.openai.models import ServedModels
from headrace.model_files import weights_of
from headrace.settings import load_settings
from llm_endpoint.generation.llama_cpp import LlamaCppGenerator
from llm_endpoint.serving.endpoint import Endpoint, Share, Traffic
from llm_endpoint.serving.limits import ServingLimits
from llm_endpoint.serving.served_model import ServedModel
from vector_index.passages import Access

ROUNDS = 5
TOKENS = 64
SLOTS = 4
FIRSTS = 20
WEIGHTS = "smollm2-135m-instruct-q4_1"


@dataclass(frozen=True, slots=True)
class Way:
    """Where a client asks."""

    url: str
    key: str
    model: str


def new_client() -> httpx2.AsyncClient:
    """A connection for each request: llama.cpp closes those that are kept, now and then in use."""
    limits = httpx2.Limits(max_connections=64, max_keepalive_connections=0)
    return httpx2.AsyncClient(timeout=600, limits=limits)


async def stream(client: httpx2.AsyncClient, way: Way, number: int, tokens: int) -> float:
    """Seconds to the first piece; returns when the answer is whole."""
    body = {
        "model": way.model, "stream": True, "max_tokens": tokens, "temperature": 0,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": f"Tell story number {number} of a river."}],
    }  # fmt: skip
    started, first = time.perf_counter(), 0.0
    headers = {"Authorization": f"Bearer {way.key}"}
    async with client.stream("POST", way.url, json=body, headers=headers) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not first and '"content":"' in line:
                first = time.perf_counter() - started
    return first


async def rate(way: Way, streams: int) -> float:
    """Tokens a second of so many streams at once."""
    async with new_client() as client:
        started = time.perf_counter()
        await asyncio.gather(*(stream(client, way, n, TOKENS) for n in range(streams)))
        return streams * TOKENS / (time.perf_counter() - started)


async def firsts(way: Way) -> float:
    """Milliseconds to the first piece, p50 of some one after the other."""
    async with new_client() as client:
        taken = [await stream(client, way, 0, 2) for _ in range(FIRSTS)]
    return 1000 * statistics.median(taken)


def shown(values: Sequence[float], digits: int = 2) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def measure(direct: Way, ours: Way) -> None:
    for streams in (1, 4, 16):
        pairs = []
        for _ in range(ROUNDS):
            pairs.append((asyncio.run(rate(direct, streams)), asyncio.run(rate(ours, streams))))
        alone, through = zip(*pairs, strict=True)
        ratios = [o / d for d, o in pairs]
        print(f"{streams:2} streams: direct {shown(alone, 1)} tokens/s, ours {shown(through, 1)}, "
              f"ratio {shown(ratios)}")  # fmt: skip
    added = [asyncio.run(firsts(ours)) - asyncio.run(firsts(direct)) for _ in range(ROUNDS)]
    print(f"first piece: {shown(added)} ms more than direct, p50 of {FIRSTS}")


def serve(engine: LlamaCppGenerator) -> tuple[uvicorn.Server, threading.Thread, str]:
    limits = ServingLimits(slots=SLOTS, queue=64)
    served = ServedModel("m", lambda: engine, limits)
    endpoint = Endpoint("e", Traffic([Share(served, 100)]))
    backend = Backend(
        {}, {}, Access("t", frozenset()), problems=dict, index=lambda name: None,  # type: ignore[arg-type,return-value]
        models=ServedModels(generators={"e": endpoint}),
    )  # fmt: skip
    app = create_app(backend, max_body_bytes=100_000, max_in_flight=64)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    return server, thread, f"http://127.0.0.1:{port}/v1/chat/completions"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    found = weights_of(load_settings(), WEIGHTS, "*.gguf")
    with tempfile.TemporaryDirectory() as folder:
        engine = LlamaCppGenerator(
            found.file, model="m", weights_sha256=found.sha256, context_tokens=1024,
            parallel=SLOTS, threads=os.cpu_count() or 2, log_file=Path(folder) / "engine.log",
        )  # fmt: skip
        engine.start()
        engine.wait_ready(60)
        server, thread, url = serve(engine)
        child = engine.endpoint
        assert child is not None
        direct = Way(f"{child.address}/v1/chat/completions", child.api_key, "m")
        try:
            measure(direct, Way(url, "none", "e"))
        finally:
            server.should_exit = True
            thread.join()
            asyncio.run(engine.close())


if __name__ == "__main__":
    main()
