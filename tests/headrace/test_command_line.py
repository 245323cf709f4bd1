"""The command line as a person runs it: real models, a real table, a process of its own."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

ROOT = Path(__file__).parents[2]
WRITTEN = datetime(2026, 11, 24, tzinfo=UTC)
ROWS = {
    "csv": "The csv module reads and writes tabular data in CSV format. DictReader maps each row "
    "to a dictionary.",
    "json": "The json module encodes Python objects as JSON text and decodes them.",
    "threading": "The threading module runs functions in separate threads.",
}


@pytest.fixture
def headrace(tmp_path, weights_dir):
    environment = {
        **os.environ,
        "HEADRACE_CONFIG": str(ROOT / "headrace.yaml"),
        "HEADRACE_STATE_DIR": str(tmp_path / "state"),
        "HEADRACE_WEIGHTS_DIR": str(weights_dir),
        "HEADRACE_INDEXES__DOCS__SOURCE__PATH": str(tmp_path / "table"),
    }

    def run(*arguments, **overrides):
        return subprocess.run(
            [sys.executable, "-m", "headrace", *arguments],
            capture_output=True, text=True, timeout=120, cwd=ROOT,
            env={**environment, **overrides}, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def table(tmp_path):
    rows = [
        {"id": key, "title": key, "kind": "module", "module": key, "body": body,
         "tenant": "python", "allowed_groups": ["everyone"], "updated_at": WRITTEN}
        for key, body in ROWS.items()
    ]  # fmt: skip
    write_deltalake(str(tmp_path / "table"), pa.Table.from_pylist(rows))
    return tmp_path / "table"


def test_a_synced_table_answers_with_a_citation_and_forgets_a_deleted_row(headrace, table):
    synced = headrace("index", "sync", "docs", "--json")
    assert synced.returncode == 0, synced.stderr
    assert json.loads(synced.stdout)["embedded"] == 3

    question = "Which module reads CSV tabular data?"
    asked = headrace("query", question, "--json")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["is_known"]
    assert "csv" in [citation["document_id"] for citation in answer["citations"]]
    assert answer["usage"]["completion_tokens"] > 0

    DeltaTable(str(table)).delete("id = 'csv'")
    status = json.loads(headrace("index", "status", "docs", "--json").stdout)
    assert (status["lag_versions"], status["table_version"]) == (1, 0)
    headrace("index", "sync", "docs")
    after = json.loads(headrace("query", question, "--json").stdout)
    assert "csv" not in [citation["document_id"] for citation in after["citations"]]
    assert (after["version"]["source"]["version"], after["lag"]["versions"]) == (1, 0)


def test_index_search_prints_the_nearest_passages_and_refuses_a_wrong_k(headrace, table):
    headrace("index", "sync", "docs")
    found = json.loads(headrace("index", "search", "docs", "CSV data", "--json").stdout)
    assert found["hits"][0]["passage"]["document_id"] == "csv"
    assert len(found["hits"]) == 3
    refused = headrace("index", "search", "docs", "x", "--k", "2147483648")
    assert refused.returncode == 1
    assert "k is 2147483648" in refused.stderr


def test_an_unrelated_question_is_answered_with_not_knowing(headrace, table):
    headrace("index", "sync", "docs")
    answer = json.loads(headrace("query", "Who won the football final?", "--json").stdout)
    assert (answer["is_known"], answer["citations"]) == (False, [])


@pytest.mark.parametrize(
    ("arguments", "overrides", "message", "code"),
    [
        (["index", "sync", "nope"], {}, "unknown index 'nope'; headrace.yaml has: docs", 2),
        (["index", "sync", "docs"], {}, "no Delta table at", 1),
        (["models", "pull", "nope"], {}, "nope", 1),
        (["query", ""], {}, "the question is empty", 1),
        (["index", "status", "docs"], {"HEADRACE_CHAIN__K": "0"}, "chain.k: Input should be", 2),
        (["serve"], {"HEADRACE_GATEWAY__HOST": "0.0.0.0"}, "gateway.host: Input should be", 2),
        (["index", "search", "docs", "x", "--k", "0"], {}, "no Delta table at", 1),
        (["index", "status", "docs"], {"HEADRACE_CONFIG": "no.yaml"}, "no settings file", 2),
    ],
)
def test_what_is_wrong_is_said_in_one_line(headrace, arguments, overrides, message, code):
    result = headrace(*arguments, **overrides)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_features_are_applied_materialized_and_read_with_their_age(headrace, tmp_path):
    repo = tmp_path / "feature_store" / "definitions"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "feature_store" / "definitions", repo, ignore=ignored)
    (tmp_path / ".headrace" / "features").mkdir(parents=True)
    now = pa.array([datetime.now(UTC)], pa.timestamp("us", tz="UTC"))
    profile = {"user_id": ["ada"], "experience_level": ["expert"], "tone": ["terse"],
               "preferred_modules": pa.array([["csv"]], pa.list_(pa.string())),
               "tier": ["paid"], "updated_at": now}  # fmt: skip
    stats = {"document_id": ["csv"], "views": [3], "helpful_votes": [1], "last_reviewed": now,
             "updated_at": now}  # fmt: skip
    write_deltalake(str(tmp_path / ".headrace/tables/user_profiles"), pa.table(profile))
    write_deltalake(str(tmp_path / ".headrace/tables/document_stats"), pa.table(stats))
    where = {"HEADRACE_FEATURES__REPO": str(repo)}

    early = headrace("features", "get", "user_profile", "ada", **where)
    assert (early.returncode, "headrace features apply" in early.stderr) == (1, True)
    assert "rag_v1" in headrace("features", "apply", **where).stdout
    done = headrace("features", "materialize", **where)
    assert done.returncode == 0, done.stderr
    got = json.loads(headrace("features", "get", "user_profile", "ada", "--json", **where).stdout)
    level = got["experience_level"]
    assert (level["value"], level["is_stale"], level["is_present"]) == ("expert", False, True)
    assert 0 <= level["age_s"] < 600


def test_config_show_prints_the_file_its_overrides_and_the_defaults(headrace, tmp_path):
    shown = json.loads(headrace("config", "show", "--json", HEADRACE_CHAIN__K="5").stdout)
    assert (shown["chain"]["k"], shown["chain"]["min_score"]) == (5, 0.35)
    assert shown["state_dir"] == str(tmp_path / "state")
    assert shown["principal"]["tenant"] == "python"


def test_help_imports_no_engine(headrace):
    code = (
        "import sys; from headrace.cli import app; "
        "print([m for m in ('faiss','onnxruntime','deltalake','pyarrow','jinja2') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          check=True)  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_packages_on_disk_in_the_wheel_and_in_the_linter_are_the_same():

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    on_disk = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    assert sorted(wheel) == on_disk == sorted(project["tool"]["importlinter"]["root_packages"])
