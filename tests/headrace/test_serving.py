"""`headrace serve` in a process of its own: a real socket, a real table, the real small models."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

ROOT = Path(__file__).parents[2]
CSV = (
    "The csv module reads and writes tabular data in CSV format. DictReader maps each row "
    "to a dictionary."
)
ROWS = {
    "csv": CSV,
    "json": "The json module encodes Python objects as JSON text and decodes them.",
    "threading": "The threading module runs functions in separate threads.",
}
QUESTION = "Which module reads CSV tabular data?"


def rows(texts):
    written = datetime(2026, 11, 24, tzinfo=UTC)
    return pa.Table.from_pylist(
        [
            {"id": key, "title": key, "kind": "module", "module": key, "body": body,
             "tenant": "python", "allowed_groups": ["everyone"], "updated_at": written}
            for key, body in texts.items()
        ]
    )  # fmt: skip


class World:
    """A server, the table behind it and the command line beside it."""

    def __init__(self, folder, weights_dir):
        self.folder = folder
        self.table = str(folder / "table")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.environment = {
            **os.environ,
            "HEADRACE_CONFIG": str(ROOT / "headrace.yaml"),
            "HEADRACE_STATE_DIR": str(folder / "state"),
            "HEADRACE_WEIGHTS_DIR": str(weights_dir),
            "HEADRACE_INDEXES__DOCS__SOURCE__PATH": self.table,
            "HEADRACE_GATEWAY__PORT": str(port),
        }
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def sync(self):
        return subprocess.run(
            [sys.executable, "-m", "headrace", "index", "sync", "docs"],
            cwd=ROOT, env=self.environment, check=True, capture_output=True,
        )  # fmt: skip

    def start(self):
        with (self.folder / "serve.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace", "serve"],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                assert self.process.poll() is None, (self.folder / "serve.log").read_text()
            time.sleep(0.05)
        raise AssertionError("the server did not become ready")

    def ask(self, question=QUESTION, **fields):
        return self.http.post("/query", json={"question": question, **fields})

    def stream(self, question=QUESTION):
        form = {"question": question, "stream": True}
        with self.http.stream("POST", "/query", json=form) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for line in response.iter_lines():
                if line:
                    yield line.removeprefix("data: ")

    def model(self):
        (child,) = psutil.Process(self.process.pid).children()
        return child


@pytest.fixture(scope="module")
def world(tmp_path_factory, weights_dir):
    world = World(tmp_path_factory.mktemp("serve"), weights_dir)
    write_deltalake(world.table, rows(ROWS))
    world.sync()
    world.start()
    world.wait_ready()
    yield world
    world.http.close()
    world.process.send_signal(signal.SIGTERM)
    world.process.wait(30)


def test_a_question_over_http_is_answered_with_a_citation_and_its_provenance(world):
    response = world.ask()
    assert response.status_code == 200
    answer = response.json()
    assert answer["is_known"]
    assert "csv" in [citation["document_id"] for citation in answer["citations"]]
    assert answer["version"]["table_version"] == 0
    assert answer["lag"] == {"versions": 0, "seconds": 0.0}
    assert answer["usage"]["completion_tokens"] > 0
    assert set(answer["timings_s"]) == {"retrieve", "prompt", "generate"}


def test_a_streamed_answer_comes_in_pieces_and_ends_with_the_whole_answer(world):
    *lines, end = world.stream()
    assert end == "[DONE]"
    *deltas, last = [json.loads(line) for line in lines]
    assert len(deltas) > 1
    assert {delta["type"] for delta in deltas} == {"delta"}
    assert last["type"] == "answer"
    assert last["answer"]["citations"]
    assert last["answer"]["usage"]["completion_tokens"] > 0


def test_without_generation_the_passages_and_the_prompt_come_back(world):
    prepared = world.ask(generate=False).json()
    assert prepared["passages"][0]["document_id"] == "csv"
    assert CSV in prepared["messages"][-1]["content"]
    assert set(prepared["timings_s"]) == {"retrieve", "prompt"}


def test_a_search_honours_k_and_the_filter(world):
    found = world.http.post("/indexes/docs/search", json={"text": QUESTION, "k": 2}).json()
    assert found["hits"][0]["document_id"] == "csv"
    assert len(found["hits"]) == 2
    filtered = world.http.post(
        "/indexes/docs/search", json={"text": QUESTION, "filter": {"module": "json"}}
    ).json()
    assert [hit["document_id"] for hit in filtered["hits"]] == ["json"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/query", '{"question": ""}', 400, "the question is empty"),
        ("/query", '{"question": "a\\u0000b"}', 400, "U+0000"),
        ("/query", '{"question": "a\\ud800b"}', 400, "U+D800"),
        ("/query", json.dumps({"question": "x" * 1_000_000}), 413, "larger than 262144 bytes"),
        ("/query", json.dumps({"question": "x" * 5000}), 400, "5000 characters"),
        ("/query", '{"question": "q", "k": 0}', 422, "got 0"),
        ("/query", '{"question": "q", "k": -1}', 422, "got -1"),
        ("/query", '{"question": "q", "k": 2147483648}', 422, "got 2147483648"),
        ("/query", '{"question": "q", "k": 1e400}', 422, "got inf"),
        ("/query", '{"question": "q", "index": "nope"}', 404, "unknown index 'nope'"),
        ("/query", '{"question": "q", "colour": 1}', 422, "colour"),
        ("/query", '{"question": "q", "filter": {"nope": 1}}', 400, "column 'nope'"),
        ("/query", '{"question": ', 400, "not JSON"),
        ("/query", "[]", 422, "got []"),
        ("/indexes/nope/search", '{"text": "q"}', 404, "unknown index 'nope'"),
        ("/indexes/docs/search", '{"text": "\\ud800"}', 400, "U+D800"),
        ("/nope", "{}", 404, "/nope"),
    ],
)
def test_bad_input_is_a_4xx_in_the_one_error_shape_that_names_the_value(
    world, path, body, status, words
):
    headers = {"content-type": "application/json"}
    response = world.http.post(path, content=body.encode(), headers=headers)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_new_generation_is_served_within_two_seconds_and_no_request_is_dropped(world):
    statuses, stop = [], threading.Event()

    def keep_asking():
        with httpx2.Client(base_url=world.http.base_url, timeout=60) as http:
            while not stop.is_set():
                found = http.post("/indexes/docs/search", json={"text": "sorting"})
                statuses.append(found.status_code)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    write_deltalake(
        world.table, rows({"heapq": "The heapq module keeps a list sorted as a heap."}),
        mode="append",
    )  # fmt: skip
    world.sync()
    deadline = time.monotonic() + 2
    search = {"text": "which module keeps a list sorted as a heap", "k": 1}
    while True:
        found = world.http.post("/indexes/docs/search", json=search).json()
        if found["hits"][0]["document_id"] == "heapq":
            break
        assert time.monotonic() < deadline, "the new generation was not served within 2 s"
        time.sleep(0.05)
    stop.set()
    asking.join()
    assert set(statuses) == {200}
    assert found["version"]["table_version"] == DeltaTable(world.table).version()


def test_a_model_killed_in_mid_answer_is_a_typed_error_and_the_next_request_is_served(world):
    lines = world.stream()
    assert json.loads(next(lines))["type"] == "delta"
    child = world.model()
    child.suspend()
    child.kill()
    *_, last, end = lines
    error = json.loads(last)
    assert (error["type"], error["error"]["code"], end) == ("error", "model_died", "[DONE]")
    again = world.ask()
    assert again.status_code == 200, again.text
    assert world.model().pid != child.pid


def test_openapi_has_examples_and_the_process_is_alive(world):
    forms = world.http.get("/openapi.json").json()["components"]["schemas"]
    assert forms["QueryRequest"]["properties"]["question"]["examples"]
    assert world.http.get("/healthz").json() == {"status": "ok"}
