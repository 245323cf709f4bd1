"""The command line as a person runs it: real models, a real table, a process of its own."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main
from deltalake import DeltaTable

from headrace.cli import app

ROOT = Path(__file__).parents[2]


def test_a_synced_table_answers_with_a_citation_and_forgets_a_deleted_row(workspace):
    synced = workspace.run("index", "sync", "docs", "--json")
    assert synced.returncode == 0, synced.stderr
    assert json.loads(synced.stdout)["embedded"] == 3
    question = "Which module reads CSV tabular data?"
    asked = workspace.run("query", question, "--json")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["is_known"]
    assert "csv" in [citation["document_id"] for citation in answer["citations"]]
    assert answer["usage"]["completion_tokens"] > 0

    DeltaTable(workspace.table).delete("id = 'csv'")
    status = json.loads(workspace.run("index", "status", "docs", "--json").stdout)
    assert (status["lag_versions"], status["table_version"], status["documents"]) == (1, 0, 3)
    workspace.run("index", "sync", "docs")
    after = json.loads(workspace.run("query", question, "--json").stdout)
    assert "csv" not in [citation["document_id"] for citation in after["citations"]]
    assert (after["version"]["source"]["version"], after["lag"]["versions"]) == (1, 0)


def test_a_watch_syncs_each_commit_prints_a_line_for_it_and_ends_when_told(workspace):
    watch = subprocess.Popen(
        workspace.command("index", "watch", "docs", "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=workspace.folder,
        env=workspace.environment,
    )  # fmt: skip
    try:
        first = json.loads(watch.stdout.readline())
        assert (first["mode"], first["changed"], first["table_version"]) == ("diff", 3, 0)
        DeltaTable(workspace.table).delete("id = 'csv'")
        second = json.loads(watch.stdout.readline())
        assert (second["removed"], second["embedded"], second["table_version"]) == (1, 0, 1)
        assert "no record" in second["reason"] or "keeps no change data feed" in second["reason"]
        status = json.loads(workspace.run("index", "status", "docs", "--json").stdout)
        assert (status["lag_versions"], status["sync"]) == (0, "manual")
        assert (status["watcher"]["is_alive"], status["watcher"]["failures"]) == (True, 0)
    finally:
        watch.terminate()
    assert watch.wait(60) == 0
    watch.stdout.close()
    status = json.loads(workspace.run("index", "status", "docs", "--json").stdout)
    assert (status["watcher"]["is_alive"], status["watcher"]["phase"]) == (False, "stopped")


def test_a_query_takes_a_user_a_filter_and_k(synced):
    asked = synced.run("query", "Which module reads CSV data?", "--user", "ada", "--k", "1",
                       "--filter", '{"module": "csv"}', "--json")  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert {(f["view"], f["key"]) for f in answer["features"]} == {
        ("user_profile", "ada"), ("document_stats", "csv"),
    }  # fmt: skip


def test_index_search_prints_the_nearest_passages(synced):
    found = json.loads(synced.run("index", "search", "docs", "CSV data", "--json").stdout)
    assert found["hits"][0]["passage"]["document_id"] == "csv"
    assert len(found["hits"]) == 3
    only = ["--filter", '{"module": ["json"]}', "--json"]
    found = json.loads(synced.run("index", "search", "docs", "CSV data", *only).stdout)
    assert [hit["passage"]["document_id"] for hit in found["hits"]] == ["json"]


def test_workers_are_for_ray_alone(synced):
    refused = synced.run("index", "sync", "docs", "--workers", "2")
    assert refused.returncode == 2
    assert "--workers 2 is for --engine ray, this is local" in " ".join(refused.stderr.split())


def test_an_index_shows_its_generations_and_goes_back_to_one(synced_workspace):
    run = synced_workspace.run
    DeltaTable(synced_workspace.table).delete("id = 'csv'")
    assert run("index", "sync", "docs").returncode == 0
    new, old = json.loads(run("index", "history", "docs", "--json").stdout)
    assert (new["live"], new["documents"], old["live"], old["documents"]) == (True, 2, False, 3)
    assert (old["table_version"], new["table_version"]) == (0, 1)
    assert old["embedder"]["id"] == new["embedder"]["id"] == "all-minilm-l6-v2-int8"
    assert new["chunking"]["max_tokens"] == 200
    assert new["schema_fingerprint"] == old["schema_fingerprint"]
    assert "by all-minilm-l6-v2-int8 of max_tokens 200" in run("index", "history", "docs").stdout
    assert json.loads(run("index", "verify", "docs", "--json").stdout)["generations"] == 2
    gone_back = run("index", "rollback", "docs", str(old["number"]), "--json")
    assert json.loads(gone_back.stdout) == {**old, "live": True}
    status = json.loads(run("index", "status", "docs", "--json").stdout)
    assert (status["generation"], status["documents"]) == (old["generation"], 3)
    refused = run("index", "rollback", "docs", "99")
    assert (refused.returncode, "no generation 99 of 'docs'" in refused.stderr) == (1, True)


def test_after_a_purge_no_file_holds_the_text_of_a_deleted_row(synced_workspace):
    run, state = synced_workspace.run, synced_workspace.folder / ".headrace" / "indexes"
    text = synced_workspace.rows["csv"].split(".")[0].encode()

    def holders():
        return [path for path in state.rglob("*") if path.is_file() and text in path.read_bytes()]

    DeltaTable(synced_workspace.table).delete("id = 'csv'")
    assert run("index", "sync", "docs").returncode == 0
    assert holders()
    purged = json.loads(run("index", "purge", "docs", "--json").stdout)
    assert (purged["live"], purged["documents"], holders()) == (True, 2, [])
    assert len(json.loads(run("index", "history", "docs", "--json").stdout)) == 1
    again = run("index", "purge", "docs")
    assert (again.returncode, "with 2 documents" in again.stdout) == (0, True), again.stderr


def test_an_index_is_created_empty_filled_paged_through_and_counted(workspace):
    run = workspace.run
    created = run("index", "create", "docs")
    assert (created.returncode, "docs: empty" in created.stdout) == (0, True), created.stderr
    assert json.loads(run("index", "stats", "docs", "--json").stdout)["documents"] == 0
    assert json.loads(run("index", "status", "docs", "--json").stdout)["lag_versions"] == 1
    again = run("index", "create", "docs")
    assert (again.returncode, "there is an index in" in again.stderr) == (1, True)
    assert run("index", "sync", "docs").returncode == 0
    stats = json.loads(run("index", "stats", "docs", "--json").stdout)
    assert (stats["documents"], stats["segments"][0]["kind"]) == (3, "flat")
    assert "exact scan" in stats["segments"][0]["reason"]
    first = json.loads(run("index", "scan", "docs", "--limit", "2", "--json").stdout)
    rest = run("index", "scan", "docs", "--after", first["next"], "--json").stdout
    pages = [first, json.loads(rest)]
    found = [document["document_id"] for page in pages for document in page["documents"]]
    assert found == ["csv", "json", "threading"]
    assert pages[1]["next"] is None


def test_a_change_of_settings_is_refused_by_a_sync_and_made_by_a_rebuild(synced_workspace):
    changed = {"HEADRACE_INDEXES__DOCS__MAX_TOKENS": "16"}
    refused = synced_workspace.run("index", "sync", "docs", **changed)
    assert (refused.returncode, "`headrace index rebuild docs`" in refused.stderr) == (1, True)
    rebuilt = synced_workspace.run("index", "rebuild", "docs", "--json", **changed)
    report = json.loads(rebuilt.stdout)
    assert report["passages"] > 3
    assert report["embedded"] > 0
    assert synced_workspace.run("index", "sync", "docs", **changed).returncode == 0
    # And the old one is a rollback away.
    assert synced_workspace.run("index", "rollback", "docs", "1").returncode == 0
    assert synced_workspace.run("index", "sync", "docs").returncode == 0


def test_index_search_by_words_or_both_and_refuses_another_type(synced):
    search = ("index", "search", "docs", "DictReader", "--json", "--type")
    words = json.loads(synced.run(*search, "full_text").stdout)["hits"]
    assert [hit["passage"]["document_id"] for hit in words] == ["csv"]
    both = json.loads(synced.run(*search, "hybrid").stdout)["hits"]
    assert both[0]["passage"]["document_id"] == "csv"
    assert both[0]["text_score"] == words[0]["score"]
    refused = synced.run(*search, "magic")
    assert refused.returncode == 1
    assert "'magic'; allowed: ann, full_text, hybrid" in refused.stderr


def test_a_chain_with_a_reranker_asks_it_and_says_how_long_it_took(synced):
    reranked = {
        "HEADRACE_MODELS__MAXSIM": '{"task": "rerank", "engine": "maxsim", "embedder": "minilm"}',
        "HEADRACE_CHAINS__DOCS__RERANK": '{"model": "maxsim", "candidates": 10}',
    }
    asked = synced.run("query", "Which module reads CSV tabular data?", "--json", **reranked)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["timings_s"]["rerank"] > 0
    assert answer["citations"][0]["document_id"] == "csv"


def test_an_unrelated_question_is_answered_with_not_knowing(synced):
    answer = json.loads(synced.run("query", "Who won the football final?", "--json").stdout)
    assert (answer["is_known"], answer["citations"]) == (False, [])


@pytest.mark.parametrize(
    ("arguments", "overrides", "message", "code"),
    [
        (["index", "sync", "nope"], {}, "unknown index 'nope'; headrace.yaml has: docs", 2),
        (["query", "q", "--chain", "nope"], {}, "unknown chain 'nope'; headrace.yaml has: docs", 2),
        (["query", "q", "--user", "nobody"], {}, "unknown user 'nobody'", 1),
        (["query", "q", "--k", "0"], {}, "k is 0; it must be between 1 and 1000", 1),
        (["query", "q", "--filter", "{"], {}, "the filter '{' is not JSON", 1),
        (["query", "q", "--filter", '{"x": 1}'], {}, "column 'x'; this index has: kind, mod", 1),
        (["index", "search", "docs", "x", "--k", "2147483648"], {}, "k is 2147483648", 1),
        (["models", "pull", "nope"], {}, "nope", 1),
        (["query", ""], {}, "the question is empty", 1),
        (["query", "q"], {"HEADRACE_MODELS__SMOLLM2__WEIGHTS": "nope"}, "no model named 'nope'", 1),
    ],
)
def test_what_is_wrong_is_said_in_one_line(synced, arguments, overrides, message, code):
    result = synced.run(*arguments, **overrides)
    assert result.returncode == code
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_server_told_to_use_a_card_that_is_not_there_says_what_to_install(synced):
    card = {"HEADRACE_GPUS": '{"0": {"memory_mb": 100}}', "HEADRACE_INDEXES__DOCS__GPU": "0"}
    refused = synced.run("serve", **card)
    assert refused.returncode == 1
    assert "gpu 0 was asked for, but faiss" in refused.stderr
    assert "pip install faiss-gpu" in refused.stderr


def test_without_its_table_an_index_refuses_to_sync_and_still_answers(synced_workspace):
    shutil.rmtree(synced_workspace.table)
    refused = synced_workspace.run("index", "sync", "docs")
    assert (refused.returncode, "no Delta table at" in refused.stderr) == (1, True)
    found = synced_workspace.run("index", "search", "docs", "CSV data", "--json")
    assert json.loads(found.stdout)["hits"][0]["passage"]["document_id"] == "csv"


def test_features_are_applied_materialized_and_read_with_their_age(workspace):
    shutil.rmtree(workspace.folder / ".headrace" / "features")
    early = workspace.run("features", "get", "user_profile", "ada")
    assert (early.returncode, "headrace features apply" in early.stderr) == (1, True)
    applied = json.loads(workspace.run("features", "apply", "--json").stdout)
    assert any("rag_v1" in line for line in applied["feast"])
    done = workspace.run("features", "materialize", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["days"] == 365
    got = json.loads(workspace.run("features", "get", "user_profile", "ada", "--json").stdout)
    level = got["experience_level"]
    assert (level["value"], level["is_stale"], level["is_present"]) == ("expert", False, True)
    assert 0 <= level["age_s"] < 600


def test_help_imports_no_engine():
    heavy = ("faiss", "feast", "onnxruntime", "deltalake", "pyarrow", "jinja2", "pydantic")
    code = f"import sys, headrace.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          check=True)  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_every_command_and_option_is_documented():
    text = (ROOT / "docs" / "cli.md").read_text()
    commands = dict(_commands(typer.main.get_command(app), "headrace"))
    documented = [line.removeprefix("## `").rstrip("`") for line in text.splitlines()
                  if line.startswith("## `")]  # fmt: skip
    assert documented == sorted(commands)
    for name, command in commands.items():
        section = text.split(f"## `{name}`\n")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in (o for o in parameter.opts if o.startswith("--")):
                assert f"`{option}`" in section, f"{name}: {option}"


def test_every_command_that_ends_by_itself_speaks_json():
    commands = dict(_commands(typer.main.get_command(app), "headrace"))
    without = {
        name for name, command in commands.items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }  # fmt: skip
    assert without == {"headrace demo", "headrace serve"}


def test_pulling_a_model_that_is_there_says_where(synced):
    pulled = json.loads(synced.run("models", "pull", "all-minilm-l6-v2-int8", "--json").stdout)
    assert (Path(pulled["folder"]) / "tokenizer.json").is_file()


def _commands(group, path):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_packages_on_disk_in_the_wheel_and_in_the_linter_are_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    on_disk = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    assert sorted(wheel) == on_disk == sorted(project["tool"]["importlinter"]["root_packages"])
