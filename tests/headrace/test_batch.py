"""`headrace batch` as a person runs it, with the real small model."""

import json
import os
import signal
import subprocess
import time

import pytest
from deltalake import DeltaTable

ASK = ("batch", "--table", ".headrace/tables/python_docs", "--out", "lines", "--max-tokens", "6")
PROMPT = ("--prompt", "Say in one line: {body}")


@pytest.fixture(scope="module")
def place(applied):
    return applied


def results(workspace, out="lines"):
    return DeltaTable(str(workspace.folder / out)).to_pyarrow_table().to_pylist()


def test_a_table_is_answered_and_another_question_in_its_place_is_refused(workspace):
    done = workspace.run(*ASK, *PROMPT, "--limit", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == 2
    done = workspace.run(*ASK, *PROMPT, "--json")
    report = json.loads(done.stdout)
    assert (report["rows"], report["kept"], report["answered"]) == (3, 2, 1)
    rows = results(workspace)
    assert sorted(row["key"] for row in rows) == ["csv", "json", "threading"]
    for row in rows:
        assert row["response"]
        assert row["error"] is None
        assert 0 < row["completion_tokens"] <= 6
        assert row["model"] == "smollm2"
    refused = workspace.run(*ASK, "--prompt", "Translate: {title}")
    assert refused.returncode == 1
    assert "prompt: 'Say in one line: {body}' there, 'Translate: {title}' asked" in refused.stderr
    again = workspace.run(*ASK, "--prompt", "Translate: {title}", "--overwrite", "--limit", "1")
    assert again.returncode == 0, again.stderr
    assert len(results(workspace)) == 1


def test_a_row_with_an_error_makes_the_exit_code_1_and_can_be_asked_again(workspace):
    long = {"long": "word " * 5000, "short": "Two words."}
    workspace.write_table(long, mode="overwrite")
    done = workspace.run(*ASK, *PROMPT)
    assert done.returncode == 1
    assert "1 rows have an error in column `error` of lines" in done.stderr
    errors = {row["key"]: row["error"] for row in results(workspace)}
    assert errors["short"] is None
    assert errors["long"].startswith("ContextOverflow")
    again = workspace.run(*ASK, *PROMPT, "--retry-errors", "--json")
    assert json.loads(again.stdout)["failed"] == 1


def test_a_running_server_is_asked_in_place_of_an_engine_of_our_own(serve):
    server = serve()
    there = ("--server", f"http://127.0.0.1:{server.port}")
    done = server.workspace.run(*ASK, *PROMPT, *there, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == 3
    unknown = server.workspace.run(*ASK[:-4], *PROMPT, *there, "--out", "other", "--model", "gpt")
    assert unknown.returncode == 1
    assert "there is no generation model 'gpt'" in unknown.stderr
    assert results(server.workspace, "other") == []


def test_a_run_that_is_interrupted_keeps_what_is_answered(workspace):
    workspace.write_table({f"row {n:03}": "Two words." for n in range(400)}, mode="overwrite")
    process = subprocess.Popen(
        workspace.command(*ASK, *PROMPT), cwd=workspace.folder, env=workspace.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        # What a shell starts in the background ignores Ctrl-C, and so does all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    log = workspace.folder / "lines" / "_delta_log"
    deadline = time.monotonic() + 60
    while not log.is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    engine_log = workspace.folder / ".headrace" / "logs"
    while not any(engine_log.glob("*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    kept = len(results(workspace))
    assert kept < 400
    done = workspace.run(*ASK, *PROMPT, "--limit", str(kept + 2), "--json")
    assert (json.loads(done.stdout)["kept"], json.loads(done.stdout)["answered"]) == (kept, 2)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--prompt", "{bdy}"), "names a column 'bdy'", 2),
        (("--prompt", "no column"), "names no column", 2),
        ((*PROMPT, "--model", "gpt"), "unknown model 'gpt'", 2),
        ((*PROMPT, "--model", "minilm"), "is of task embedding; these write text: smollm2", 2),
        ((*PROMPT, "--table", "nowhere"), "no file or folder at", 1),
        ((*PROMPT, "--key", "tenant"), "key 'python' stands more than once", 1),
    ],
)
def test_what_cannot_be_asked_is_said(place, arguments, message, code):
    done = place.run(*ASK, *arguments)
    assert message in " ".join(done.stderr.split()).replace("│ ", ""), done.stderr
    assert done.returncode == code
    assert not (place.folder / "lines").exists()
