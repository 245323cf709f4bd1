"""The demo's feature tables, counted by hand over two documents."""

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from pipelines.demo_features import write_demo_features


def test_statistics_are_counted_in_the_documents_and_written_again_they_replace(tmp_path):
    bodies = {
        "csv": "Reads `json` too, like json.load; see csv.\n>>> import csv\n>>> csv.reader",
        "json": 'Not "csv", not csv.reader.',
    }
    documents = [{"id": key, "title": key, "body": body} for key, body in bodies.items()]
    write_deltalake(str(tmp_path / "docs"), pa.Table.from_pylist(documents))
    for _ in range(2):
        write_demo_features(tmp_path / "docs", tmp_path)
    stats = DeltaTable(str(tmp_path / "document_stats")).to_pyarrow_table().to_pylist()
    counted = {row["document_id"]: (row["views"], row["helpful_votes"]) for row in stats}
    assert counted == {"csv": (1, 2), "json": (1, 0)}


def test_the_users_differ_in_level_and_tone(tmp_path):
    empty = pa.table({name: pa.array([], pa.string()) for name in ("id", "title", "body")})
    write_deltalake(str(tmp_path / "docs"), empty)
    write_demo_features(tmp_path / "docs", tmp_path)
    users = DeltaTable(str(tmp_path / "user_profiles")).to_pyarrow_table().to_pylist()
    assert {(user["experience_level"], user["tone"]) for user in users} == {
        ("expert", "terse"), ("beginner", "friendly"), ("beginner", "terse"),
    }  # fmt: skip
