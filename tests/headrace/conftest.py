"""A workspace of its own: the repository's settings and definitions over a table of three rows."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from pipelines.demo_features import write_demo_features

ROOT = Path(__file__).parents[2]
TABLES = Path(".headrace/tables")
TABLE = TABLES / "python_docs"
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
