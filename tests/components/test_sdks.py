"""openai 2, langchain-openai and LlamaIndex, unmodified, against `headrace serve`.

Needs HEADRACE_SDKS_PYTHON, the interpreter of an environment with them; `make test-components`
makes it.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).with_name("sdk_clients.py")
SETTINGS = """
models:
  minilm: {task: embedding, engine: onnx, weights: all-minilm-l6-v2-int8}
  smollm2: {task: generation, engine: llama.cpp, weights: smollm2-135m-instruct-q4_1}
indexes:
  notes: {source: direct, embedder: minilm}
chains:
  notes: {index: notes, model: smollm2}
principal: {tenant: t, groups: [everyone]}
"""
NOTE = {"id": "refunds", "text": "Refunds take 14 days."}


@pytest.fixture(scope="module")
def server(tmp_path_factory, weights_dir):
    """The address of `headrace serve` over two models and an index of one note."""
    folder = tmp_path_factory.mktemp("sdks")
    (folder / "headrace.yaml").write_text(SETTINGS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
    environment |= {"HEADRACE_WEIGHTS_DIR": str(weights_dir), "PYTHONPATH": str(ROOT)}
    environment["HEADRACE_GATEWAY__PORT"] = str(port)
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "serve"],
            cwd=folder, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        try:
            wait_ready(http, process)
            http.post("/indexes/notes/upsert", json={"documents": [NOTE]}).raise_for_status()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def wait_ready(http, process):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended before it was ready"
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not become ready")


def run(client, server):
    python = os.environ.get("HEADRACE_SDKS_PYTHON")
    if not python:
        pytest.fail("HEADRACE_SDKS_PYTHON is not set; run `make test-components`")
    done = subprocess.run(
        [python, "-I", CLIENTS, client, f"{server}/v1"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected(server):
    """The vectors of the two texts, asked for by hand."""
    body = {"model": "minilm", "input": [NOTE["text"], "The kitchen closes at nine."]}
    made = httpx2.post(f"{server}/v1/embeddings", json=body).json()
    return np.array([one["embedding"] for one in made["data"]])


def assert_same(vectors, expected):
    # Batches are padded otherwise: equal but for the last bits.
    assert np.sum(np.array(vectors) * expected, axis=1).min() > 0.9999


def test_openai_2_chats_streams_embeds_and_reads_what_an_answer_is_built_from(server, expected):
    found = run("openai_2", server)
    assert found["versions"]["openai"].startswith("2.")
    assert found["models"] == ["minilm", "rag/notes", "smollm2"]
    assert found["chat"]
    assert len(found["pieces"]) > 1
    assert 0 < found["usage"] <= 8
    assert found["events"][0] == "response.created"
    assert found["events"][-1] in ("response.completed", "response.incomplete")
    assert found["rag"]["is_known"]
    assert found["rag"]["version"]["index"] == "notes"
    assert isinstance(found["rag"]["citations"], list)
    assert_same(found["vectors"], expected)
    assert found["refused"] == ["n", "unsupported_parameter"]


def test_langchain_chats_streams_and_embeds_texts_and_learns_to_send_no_ids(server, expected):
    found = run("langchain", server)
    assert found["chat"]
    assert 0 < found["usage"] <= 8
    assert len([piece for piece in found["pieces"] if piece]) > 1
    assert found["responses"]
    assert found["rag"]
    assert_same(found["vectors"], expected)
    assert_same([found["question"]], expected[:1])
    # Told nothing, it sends ids of OpenAI's vocabulary.
    assert "check_embedding_ctx_length=False" in found["refused"]


def test_llama_index_chats_completes_and_embeds(server, expected):
    found = run("llama_index", server)
    assert found["chat"]
    assert found["plain"]
    assert len([piece for piece in found["pieces"] if piece]) > 1
    assert found["rag"]
    assert_same(found["vectors"], expected)
    assert_same([found["question"]], expected[:1])
