"""A workspace of its own: the repository's settings and definitions over a table of three rows."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from pipelines.demo_features import write_demo_features

ROOT = Path(__file__).parents[2]
TABLES = Path(".headrace/tables")
TABLE = TABLES / "python_docs"
QUESTION = "Which module reads CSV tabular data?"
ROWS = {
    "csv": "The csv module reads and writes tabular data in CSV format. DictReader maps each row "
    "to a dictionary.",
    "json": "The json module encodes Python objects as JSON text and decodes them.",
    "threading": "The threading module runs functions in separate threads.",
}


def table_rows(texts):
    written = datetime(2026, 11, 24, tzinfo=UTC)
    return pa.Table.from_pylist(
        [
            {"id": key, "title": key, "kind": "module", "module": key, "body": body,
             "tenant": "python", "allowed_groups": ["everyone"], "updated_at": written}
            for key, body in texts.items()
        ]
    )  # fmt: skip


class Workspace:
    """A folder with a headrace.yaml of its own, and the command line in it."""

    rows = ROWS

    def __init__(self, folder, weights_dir):
        self.folder = folder
        self.table = str(folder / TABLE)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "HEADRACE" not in name},
            "HEADRACE_WEIGHTS_DIR": str(weights_dir),
            "PYTHONPATH": str(ROOT),
        }

    def command(self, *arguments):
        return [sys.executable, "-m", "headrace", *arguments]

    def run(self, *arguments, **overrides):
        return subprocess.run(
            self.command(*arguments),
            capture_output=True, text=True, timeout=120, cwd=self.folder,
            env={**self.environment, **overrides}, check=False,
        )  # fmt: skip

    def write_table(self, texts=ROWS, mode="error"):
        write_deltalake(self.table, table_rows(texts), mode=mode)


class Server:
    """`headrace serve` over a workspace, and a client of it."""

    def __init__(self, workspace):
        self.workspace = workspace
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def start(self, **overrides):
        self.log = self.workspace.folder / "serve.log"
        environment = {**self.workspace.environment, **overrides}
        environment["HEADRACE_GATEWAY__PORT"] = str(self.port)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.workspace.command("serve"),
                cwd=self.workspace.folder, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.wait_ready()

    def wait_ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError("the server did not become ready")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.http.close()

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


@pytest.fixture(scope="session")
def applied(tmp_path_factory, weights_dir):
    """Settings, three rows, and features applied and materialized; nothing is indexed yet."""
    folder = tmp_path_factory.mktemp("applied")
    shutil.copy(ROOT / "headrace.yaml", folder)
    shutil.copytree(
        ROOT / "feature_store" / "definitions", folder / "feature_store" / "definitions",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    workspace = Workspace(folder, weights_dir)
    workspace.write_table()
    write_demo_features(folder / TABLE, folder / TABLES)
    for step in ("apply", "materialize"):
        done = workspace.run("features", step)
        assert done.returncode == 0, done.stderr
    return workspace


@pytest.fixture(scope="session")
def synced(applied, tmp_path_factory, weights_dir):
    """As `applied`, and indexed."""
    folder = tmp_path_factory.mktemp("synced") / "workspace"
    shutil.copytree(applied.folder, folder)
    workspace = Workspace(folder, weights_dir)
    done = workspace.run("index", "sync", "docs")
    assert done.returncode == 0, done.stderr
    return workspace


@pytest.fixture
def workspace(applied, tmp_path, weights_dir):
    """A copy of `applied` for one test."""
    shutil.copytree(applied.folder, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace", weights_dir)


@pytest.fixture
def synced_workspace(synced, tmp_path, weights_dir):
    """A copy of `synced` for one test."""
    shutil.copytree(synced.folder, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace", weights_dir)


@pytest.fixture(scope="module")
def serve_models(tmp_path_factory, weights_dir):
    """Starts `headrace serve` over models only (YAML of `models:`) until the module ends."""
    with ExitStack() as running:

        def start(models, **overrides):
            folder = tmp_path_factory.mktemp("models")
            others = "indexes: {}\nchains: {}\nprincipal: {tenant: t, groups: [everyone]}\n"
            (folder / "headrace.yaml").write_text(f"models:\n{models}\n{others}")
            server = Server(Workspace(folder, weights_dir))
            server.start(**overrides)
            running.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="module")
def serve(synced, tmp_path_factory, weights_dir):
    """Starts `headrace serve` over a workspace (a copy of `synced`) until the module ends."""
    with ExitStack() as running:

        def start(workspace=None):
            if workspace is None:
                folder = tmp_path_factory.mktemp("serve") / "workspace"
                shutil.copytree(synced.folder, folder)
                workspace = Workspace(folder, weights_dir)
            server = Server(workspace)
            server.start()
            running.callback(server.stop)
            return server

        yield start
