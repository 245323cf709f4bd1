"""The command line and a server over an index that milvus-lite keeps: a real store, real models."""

import json

import pytest
from deltalake import DeltaTable


@pytest.fixture
def run(workspace):
    place = json.dumps({"uri": str(workspace.folder / "milvus.db")})

    def command(*arguments):
        return workspace.run(*arguments, HEADRACE_INDEXES__DOCS__MILVUS=place)

    return command


def test_an_index_in_milvus_is_synced_searched_asked_and_paged_through(run, workspace):
    early = run("index", "status", "docs")
    assert (early.returncode, "`headrace index sync docs`" in early.stderr) == (1, True)
    synced = run("index", "sync", "docs", "--json")
    assert synced.returncode == 0, synced.stderr
    assert json.loads(synced.stdout)["embedded"] == 3
    assert not (workspace.folder / ".headrace/indexes").exists()
    asked = json.loads(run("query", "Which module reads CSV tabular data?", "--json").stdout)
    assert "csv" in [citation["document_id"] for citation in asked["citations"]]

    DeltaTable(workspace.table).delete("id = 'csv'")
    status = json.loads(run("index", "status", "docs", "--json").stdout)
    assert (status["lag_versions"], status["documents"]) == (1, 3)
    again = json.loads(run("index", "sync", "docs", "--json").stdout)
    assert (again["removed"], again["embedded"]) == (1, 0)
    found = json.loads(run("index", "search", "docs", "CSV data", "--json").stdout)
    assert {hit["passage"]["document_id"] for hit in found["hits"]} == {"json", "threading"}
    page = json.loads(run("index", "scan", "docs", "--json").stdout)
    assert [document["document_id"] for document in page["documents"]] == ["json", "threading"]
    findings = {f["check"]: f for f in json.loads(run("doctor", "--json").stdout)}
    assert findings["index docs"]["is_fine"], findings["index docs"]


@pytest.mark.parametrize("command", ["history", "verify", "stats", "rebuild"])
def test_what_milvus_cannot_do_is_refused_in_one_line(run, command):
    refused = run("index", command, "docs")
    assert (refused.returncode, "kept in Milvus" in refused.stderr) == (2, True)
    assert len(refused.stderr.strip().splitlines()) == 1
