"""What somebody who waits notices of a batch, and what a batch gets done, on `headrace serve`.

Needs a headrace.yaml with the default models (`make demo` pulls them). Rounds, interleaved: chats
of 16 tokens one after another, with nothing else, beside a batch of chats, and beside a batch of
embeddings of 100-word texts. Prints median and spread (lowest to highest round) of their p50, of
the first token and of the whole, and the lines a second of each batch beside the chats and alone.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable

import httpx2

ROUNDS = 3
CHATS = 20
ALONE_S = 6.0
MODEL, EMBEDDER = "smollm2", "minilm"
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
LINES = 5000


def main() -> None:
    """Runs the server on a free port, measures, stops it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "headrace", "serve"],
        env={**os.environ, "HEADRACE_GATEWAY__PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
            wait_ready(http, server)
            measure(http)
    finally:
        server.terminate()
        server.wait(30)


def wait_ready(http: httpx2.Client, server: subprocess.Popen[bytes]) -> None:
    """Polls /readyz until it is 200; exits if the server ends first."""
    while True:
        if server.poll() is not None:
            sys.exit("the server ended; run `make demo` first")
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)


def measure(http: httpx2.Client) -> None:
    """All rounds, and a line for each figure."""
    firsts: dict[str, list[float]] = {}
    wholes: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    chats(http, 3)
    for _ in range(ROUNDS):
        for name, url in (("nothing", None), ("chat batch", CHAT), ("embedding batch", EMBEDDINGS)):
            batch = None if url is None else start(http, url)
            begun, done = time.perf_counter(), 0 if batch is None else completed(http, batch)
            first, whole = chats(http, CHATS)
            firsts.setdefault(name, []).append(first)
            wholes.setdefault(name, []).append(whole)
            if batch is None:
                continue
            note(rates, f"{name} beside chats", http, batch, done, begun)
            begun, done = time.perf_counter(), completed(http, batch)
            time.sleep(ALONE_S)
            note(rates, f"{name} alone", http, batch, done, begun)
            http.post(f"/v1/batches/{batch}/cancel").raise_for_status()
            while http.get(f"/v1/batches/{batch}").json()["status"] != "cancelled":
                time.sleep(0.05)
    for name in firsts:
        print(f"first token beside {name:16} {shown(firsts[name], 1000)} ms")
        print(f"16 tokens beside {name:18} {shown(wholes[name], 1000)} ms")
    for name, seen in rates.items():
        print(f"{name:35} {shown(seen)} lines/s")


def note(
    rates: dict[str, list[float]], name: str, http: httpx2.Client, batch: str, done: int, t: float
) -> None:
    rate = (completed(http, batch) - done) / (time.perf_counter() - t)
    rates.setdefault(name, []).append(rate)


def chats(http: httpx2.Client, count: int) -> tuple[float, float]:
    """p50 of the seconds to the first token and to the last."""
    firsts, wholes = [], []
    for number in range(count):
        body = body_of(CHAT, number + 1_000_000) | {"stream": True}
        started, first = time.perf_counter(), None
        with http.stream("POST", CHAT, json=body) as response:
            for line in response.iter_lines():
                if first is None and b'"content"' in line.encode():
                    first = time.perf_counter() - started
        firsts.append(first or 0.0)
        wholes.append(time.perf_counter() - started)
    return statistics.median(firsts), statistics.median(wholes)


def start(http: httpx2.Client, url: str) -> str:
    """The id of a batch that has begun to answer."""
    lines = "\n".join(json.dumps(one) for one in requests(url)).encode()
    sent = http.post("/v1/files", files={"file": ("a.jsonl", lines)}, data={"purpose": "batch"})
    form = {"input_file_id": sent.json()["id"], "endpoint": url, "completion_window": "24h"}
    batch = str(http.post("/v1/batches", json=form).raise_for_status().json()["id"])
    while not completed(http, batch):
        time.sleep(0.02)
    return batch


def completed(http: httpx2.Client, batch: str) -> int:
    return int(http.get(f"/v1/batches/{batch}").json()["request_counts"]["completed"])


def requests(url: str) -> Iterable[dict[str, object]]:
    for number in range(LINES):
        body = body_of(url, number)
        yield {"custom_id": str(number), "method": "POST", "url": url, "body": body}


def body_of(url: str, number: int) -> dict[str, object]:
    if url == EMBEDDINGS:
        return {"model": EMBEDDER, "input": f"text {number} " * 50}
    asked = [{"role": "user", "content": f"Tell me something about the number {number}."}]
    return {"model": MODEL, "messages": asked, "max_tokens": 16, "temperature": 0}


def shown(seen: list[float], scale: float = 1.0) -> str:
    low, middle, high = (scale * one for one in (min(seen), statistics.median(seen), max(seen)))
    return f"{middle:8.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
