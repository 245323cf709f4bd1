"""`index verify --table`, `quarantine` and `retry` as commands, with the real embedder."""

import json
from pathlib import Path

from pipelines.quarantine import Quarantine, Rejection
from pipelines.reasons import Reason
from vector_index.generation import published
from vector_index.writer import IndexWriter

INDEX = Path(".headrace") / "indexes" / "docs"


def lose(workspace, key):
    """Takes a document out behind the back of the sync."""
    home = workspace.folder / INDEX
    with IndexWriter(home, published(home).settings) as writer:
        writer.delete([key])
        writer.flush()


def as_json(result):
    return json.loads(result.stdout)


def test_an_index_is_verified_against_its_table_and_repaired(synced_workspace):
    sound = synced_workspace.run("index", "verify", "docs", "--table")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "3 documents compared with table version 0: 0 missing, 0 too many" in sound.stdout
    # Stored vectors were embedded in one batch, these document by document.
    proof = as_json(synced_workspace.run("index", "verify", "docs", "--table", "--json"))
    assert (proof["is_equal"], proof["vectors_compared"]) == (True, 3)
    assert proof["least_cosine"] >= 0.999

    lose(synced_workspace, "json")
    drifted = synced_workspace.run("index", "verify", "docs", "--table")
    assert drifted.returncode == 1
    assert "missing: json" in drifted.stdout
    assert "differs from its table; `--repair` applies them again" in drifted.stderr
    repaired = synced_workspace.run("index", "verify", "docs", "--repair")
    assert (repaired.returncode, repaired.stderr) == (0, "")
    assert synced_workspace.run("index", "verify", "docs", "--table").returncode == 0


def test_rows_in_quarantine_are_listed_and_tried_again(synced_workspace):
    nothing = synced_workspace.run("index", "retry", "docs", "--json")
    assert as_json(nothing) == {"indexed": [], "gone": [], "failed": []}
    lose(synced_workspace, "json")
    source = published(synced_workspace.folder / INDEX).source
    quarantine = Quarantine(synced_workspace.folder / ".headrace" / "quarantine" / "docs")
    quarantine.add([
        Rejection(key, Reason.EMBEDDER_FAILED, "it was down", source.table_id, source.version)
        for key in ("json", "long gone")
    ])  # fmt: skip
    listed = synced_workspace.run("index", "quarantine", "docs")
    assert "json  embedder_failed  tried 1 times, table version 0: it was down" in listed.stdout
    (first, _) = as_json(synced_workspace.run("index", "quarantine", "docs", "--json"))
    assert (first["key"], first["reason"]) == ("json", "embedder_failed")
    tried = as_json(synced_workspace.run("index", "retry", "docs", "--json"))
    assert tried == {"indexed": ["json"], "gone": ["long gone"], "failed": []}
    assert synced_workspace.run("index", "quarantine", "docs").stdout == ""
    assert synced_workspace.run("index", "verify", "docs", "--table").returncode == 0
