"""Cold start, memory and /query without generation of `headrace serve`, against its limit.

Needs the demo's index and features (`make demo`); asks as one of its users. Whatever /query costs
beyond the embedding of its question is ours: the whole request as the client sees it, less the
seconds that the same answer gives for `embed`. Beside it, interleaved, the floor of any answer over
this stack, GET /healthz, and the embedding alone in this process, back to back, which is faster
than between requests, when the encoder's threads have gone to sleep. Five rounds; prints median
and spread (lowest to highest round) of their p50 in milliseconds.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import httpx2
import psutil

from headrace import assembly
from headrace.settings import load_settings

ROUNDS = 5
REQUESTS = 100
USER = "ada"
QUESTION = "How do I read a CSV file into dictionaries?"


def main() -> None:
    """Runs the server on a free port, measures, stops it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "headrace", "serve"],
        env={**os.environ, "HEADRACE_GATEWAY__PORT": str(port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            wait_ready(http, server)
            print(f"cold start to ready      {time.perf_counter() - started:.2f} s")
            http.post("/query", json={"question": QUESTION}).raise_for_status()
            measure(http)
            process = psutil.Process(server.pid)
            sizes = [p.memory_info().rss for p in (process, *process.children(recursive=True))]
            parts = " + ".join(f"{size / 1e6:.0f}" for size in sizes)
            print(f"resident memory          {sum(sizes) / 1e6:.0f} MB ({parts})")
    finally:
        server.terminate()
        server.wait(30)


def wait_ready(http: httpx2.Client, server: subprocess.Popen[bytes]) -> None:
    """Polls /readyz until it is 200; exits if the server ends first."""
    while True:
        if server.poll() is not None:
            sys.exit("the server ended before it was ready; run `make demo` first")
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.02)


def measure(http: httpx2.Client) -> None:
    """Interleaved rounds of /query without generation and of the embedding alone."""
    embedder = assembly.build_embedder(load_settings(), "minilm")
    # A new question each time: neither side may answer from a cache.
    questions = (f"{QUESTION} {number}" for number in range(10**6))

    beyond: list[float] = []
    stages: dict[str, list[float]] = {}

    def ask() -> None:
        form = {"question": next(questions), "user": USER, "generate": False}
        started = time.perf_counter()
        response = http.post("/query", json=form)
        elapsed = time.perf_counter() - started
        timings = response.raise_for_status().json()["timings_s"]
        beyond.append((elapsed - timings["embed"]) * 1e3)
        for stage, seconds in timings.items():
            stages.setdefault(stage, []).append(seconds * 1e3)

    def embed() -> None:
        embedder.embed_queries([next(questions)])

    ask()
    embed()
    rounds: dict[str, list[float]] = {"query": [], "beyond": [], "healthz": [], "embedding": []}
    for _ in range(ROUNDS):
        beyond.clear()
        rounds["query"].append(median_ms(ask))
        rounds["beyond"].append(statistics.median(beyond))
        rounds["healthz"].append(median_ms(lambda: http.get("/healthz")))
        rounds["embedding"].append(median_ms(embed))
    show("/query, no generation", rounds["query"])
    show("all but its embedding", rounds["beyond"])
    show("GET /healthz", rounds["healthz"])
    show("embedding back to back", rounds["embedding"])
    parts = ", ".join(f"{stage} {statistics.median(ms):.2f}" for stage, ms in stages.items())
    print(f"stages, p50 in ms        {parts}")


def median_ms(call: Callable[[], None]) -> float:
    """The p50 of one round."""
    times = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def show(name: str, values: list[float]) -> None:
    """Median and spread of the rounds' p50."""
    middle = statistics.median(values)
    print(f"{name:24} p50 {middle:.2f} ms ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
