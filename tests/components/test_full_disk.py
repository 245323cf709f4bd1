"""A server whose state is on a small disk of its own, which is filled and emptied again.

Needs util-linux and a kernel that lets a user mount a tmpfs in a namespace of his own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

ROOT = Path(__file__).resolve().parents[2]
MOUNTING = Path(__file__).with_name("full_disk.sh")
DISK_BYTES = 24_000_000
PATIENCE_S = 120
SETTINGS = """
state_dir: state
models:
  minilm: {task: embedding, engine: onnx, weights: all-minilm-l6-v2-int8}
  smollm2: {task: generation, engine: llama.cpp, weights: smollm2-135m-instruct-q4_1}
indexes:
  docs: {source: {path: table}, embedder: minilm, key: id, title: title, text: body, sync: watch,
         max_text_bytes: 5000}
chains:
  docs: {index: docs, model: smollm2}
principal: {tenant: python, groups: [everyone]}
"""


class Served:
    """`headrace serve` in a namespace where `state` is a disk of DISK_BYTES."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder, self.table = folder, folder / "table"
        (folder / "state").mkdir()
        (folder / "headrace.yaml").write_text(SETTINGS)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "HEADRACE" not in name},
            "HEADRACE_WEIGHTS_DIR": str(weights),
            "HEADRACE_GATEWAY__PORT": str(port),
            "PYTHONPATH": str(ROOT),
        }

    def start(self) -> None:
        apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", str(MOUNTING), "state"]
        serve = [sys.executable, "-m", "headrace", "serve"]
        self.log = (self.folder / "serve.log").open("w+")
        self.process = subprocess.Popen(
            [*apart, str(DISK_BYTES), *serve],
            cwd=self.folder, env=self.environment, stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.http.close()
        self.log.close()

    @property
    def state(self) -> Path:
        """The disk, as the server sees it."""
        return Path(f"/proc/{self.process.pid}/cwd/state")

    def write(self, texts: dict[str, str]) -> None:
        rows = [{"id": key, "title": key, "body": body} for key, body in texts.items()]
        write_deltalake(str(self.table), pa.Table.from_pylist(rows), mode="append")

    def told(self) -> dict[str, Any]:
        assert self.process.poll() is None, (self.folder / "serve.log").read_text()
        try:
            form: dict[str, Any] = self.http.get("/indexes/docs").json()
        except httpx2.TransportError:
            return {}
        return form

    def wait(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if (form := self.told()) and holds(form):
                return form
            time.sleep(0.05)
        raise AssertionError((form, (self.folder / "serve.log").read_text()[-4000:]))

    def wait_indexed(self, version: int) -> dict[str, Any]:
        return self.wait(lambda form: (form["version"] or {}).get("table_version") == version)

    def status(self) -> dict[str, Any]:
        """As an operator asks beside the server."""
        inside = ["nsenter", "--target", str(self.process.pid), "--user", "--mount"]
        status = [sys.executable, "-m", "headrace", "index", "status", "docs", "--json"]
        there = ["--preserve-credentials", "sh", "-c", 'cd "$0" && exec "$@"', str(self.folder)]
        asked = subprocess.run(
            [*inside, *there, *status],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        form: dict[str, Any] = json.loads(asked.stdout)
        return form

    def fill(self) -> None:
        """Not a byte is left."""
        with (self.state / "filler").open("wb", buffering=0) as file:
            for piece in (1 << 16, 1):
                try:
                    while file.write(b"x" * piece):
                        pass
                except OSError:
                    continue


@pytest.fixture
def served(tmp_path: Path, weights_dir: Path) -> Iterator[Served]:
    served = Served(tmp_path, weights_dir)
    served.write({"csv": "The csv module reads tabular data.", "json": "The json module decodes."})
    served.start()
    try:
        served.wait_indexed(0)
        yield served
    finally:
        served.stop()


def test_a_full_disk_stops_no_query_is_said_and_is_got_over_alone(served: Served) -> None:
    statuses: list[int] = []
    found: list[set[str]] = []
    stop = threading.Event()

    def keep_asking() -> None:
        with httpx2.Client(base_url=served.http.base_url, timeout=60) as http:
            while not stop.is_set():
                form = {"text": "tabular data", "query_type": "hybrid", "k": 10}
                answer = http.post("/indexes/docs/search", json=form)
                statuses.append(answer.status_code)
                found.append({hit["document_id"] for hit in answer.json()["hits"]})

    assert served.state.stat().st_dev != served.folder.stat().st_dev
    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        served.fill()
        served.write({"heapq": "The heapq module keeps a heap.", "long": "too long " * 1000})
        told = served.wait(
            lambda form: form["sync"]["failures"] >= 2 and form["sync"]["phase"] == "failing"
        )
        assert "No space left on device" in told["sync"]["last_error"]
        assert told["version"]["table_version"] == 0
        assert told["lag"]["versions"] == 1
        watcher = served.status()["watcher"]
        # It tries again and again, and may be doing so at this moment.
        assert watcher["is_alive"]
        assert watcher["phase"] in ("failing", "syncing")
        assert "No space left on device" in watcher["last_error"]
        answered = len(statuses)
        served.wait(lambda form: len(statuses) > answered + 50)
        assert {"csv", "json"} == set.union(*found)

        (served.state / "filler").unlink()
        told = served.wait_indexed(DeltaTable(str(served.table)).version())
        told = served.wait(lambda form: form["sync"]["failures"] == 0)
        assert (told["sync"]["phase"], told["documents"]) == ("idle", 3)
        served.wait(lambda form: "heapq" in found[-1])
    finally:
        stop.set()
        asking.join()
    assert set(statuses) == {200}
    assert served.status()["watcher"]["phase"] == "idle"
    assert not list(served.state.glob("indexes/docs/generations/.*"))
