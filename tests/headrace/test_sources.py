"""Tables other than Delta, rules and lineage, through headrace.yaml and the command line."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from papers import DOCX, PDF


@pytest.fixture
def run(workspace):
    def command(*arguments, **source):
        return workspace.run(*arguments, **source)

    return command


def source_of(form):
    return {"HEADRACE_INDEXES__DOCS__SOURCE": json.dumps(form)}


def test_parquet_files_and_sql_are_synced_like_a_delta_table(run, workspace):
    files = workspace.folder / "files"
    files.mkdir()
    table = DeltaTable(str(workspace.table)).to_pyarrow_table()
    pq.write_table(table, files / "a.parquet")
    # The environment adds to the file's section, so the file must not name a Delta table too.
    config = workspace.folder / "headrace.yaml"
    line = next(one for one in config.read_text().splitlines() if "source:" in one)
    for form in ("{path: files, format: parquet}",
                 '{sql: "SELECT * FROM t WHERE id <> \'json\'", tables: {t: files}}'):  # fmt: skip
        config.write_text(config.read_text().replace(line, f"    source: {form}"))
        line = f"    source: {form}"
        synced = run("index", "sync", "docs", "--json")
        assert synced.returncode == 0, synced.stderr
        assert run("index", "sync", "docs", "--json").returncode == 0
    assert json.loads(synced.stdout)["removed"] == 1
    found = json.loads(run("index", "search", "docs", "CSV data", "--json").stdout)["hits"]
    assert {hit["passage"]["document_id"] for hit in found} == {"csv", "threading"}


def test_rules_set_rows_aside_and_lineage_is_told(run, workspace):
    rules = [{"column": "id", "check": "matches", "pattern": "csv|json", "on_fail": "quarantine"}]
    options = {
        "HEADRACE_INDEXES__DOCS__QUALITY": json.dumps(rules),
        "HEADRACE_LINEAGE": json.dumps({"file": str(workspace.folder / "lineage.jsonl")}),
    }
    synced = workspace.run("index", "sync", "docs", "--json", **options)
    assert synced.returncode == 0, synced.stderr
    report = json.loads(synced.stdout)
    assert (report["changed"], report["quarantined"]) == (2, 1)
    held = json.loads(run("index", "quarantine", "docs", "--json").stdout)
    assert [(row["key"], row["reason"]) for row in held] == [("threading", "quality")]
    proved = run("index", "verify", "docs", "--table", "--json")
    assert json.loads(proved.stdout)["is_equal"], proved.stderr
    retried = json.loads(run("index", "retry", "docs", "--all", "--json").stdout)
    assert retried["indexed"] == ["threading"]
    lines = (workspace.folder / "lineage.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    assert events[1]["outputs"]


def test_documents_are_synced_quarantined_retried_and_found(run, workspace):
    documents = {"csv": PDF, "json": DOCX, "threading": PDF[:300]}
    papers = workspace.folder / "papers"
    papers.mkdir()
    for key, content in documents.items():
        (papers / key).write_bytes(content)
    table = DeltaTable(workspace.table).to_pyarrow_table().sort_by("id")
    write_deltalake(workspace.table, table.append_column("file", pa.array(documents)),
                    mode="overwrite", schema_mode="overwrite")  # fmt: skip
    config = workspace.folder / "headrace.yaml"
    document = "    document: {column: file, folder: papers, timeout_s: 30, look_every_s: 1}\n"
    config.write_text(config.read_text().replace("    text: body\n", document))
    report = json.loads(run("index", "sync", "docs", "--json").stdout)
    assert (report["changed"], report["quarantined"]) == (2, 1)
    hits = json.loads(run("index", "search", "docs", "ask support", "--json").stdout)["hits"]
    assert hits[0]["passage"]["text"] == "Refunds take 14 days. Ask support for more."
    (held,) = json.loads(run("index", "quarantine", "docs", "--json").stdout)
    assert (held["key"], held["reason"]) == ("threading", "parser_failed")
    retried = json.loads(run("index", "retry", "docs", "--json").stdout)
    assert retried["failed"] == ["threading"]


@pytest.mark.parametrize(
    ("key", "form", "message"),
    [
        ("SOURCE", {"sql": "SELECT 1"}, "give either path, or sql"),
        ("DOCUMENT", {"column": "body"}, "give either text, a column, or document"),
        ("QUALITY", [{"column": "nope", "check": "not_null"}], "there is no column 'nope'"),
    ],
)
def test_a_source_or_rule_that_is_none_is_named(run, key, form, message):
    refused = run("index", "sync", "docs", **{f"HEADRACE_INDEXES__DOCS__{key}": json.dumps(form)})
    assert refused.returncode in (1, 2)
    assert message in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
