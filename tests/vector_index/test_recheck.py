"""A row that no scan should have found is withheld, by a rule that shares no code with masks."""

import logging

import numpy as np
import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit

from vector_index.filters import parse_filter
from vector_index.rows import PassageRows
from vector_index.writer import IndexWriter


@pytest.fixture
def writer(tmp_path, four):
    with IndexWriter(tmp_path / "docs", settings()) as writer:
        writer.publish(four, source())
        yield writer


def test_a_wrong_mask_shows_nobody_what_is_not_theirs(writer, monkeypatch, caplog):
    monkeypatch.setattr(PassageRows, "allowed", lambda *_: None)
    with caplog.at_level(logging.ERROR):
        hits = writer.search(unit(1, 0), k=10, access=EVERYONE).hits
    assert [hit.passage.document_id for hit in hits] == ["a", "b", "c"]
    assert "row_withheld reason=access index=docs" in caplog.text
    assert "text of secret" not in caplog.text


def test_a_wrong_mask_does_not_widen_a_filter(writer, monkeypatch, caplog):
    monkeypatch.setattr(PassageRows, "allowed", lambda *_: np.ones(4, np.bool_))
    where = parse_filter({"kind": "class"}, writer.metadata_columns)
    hits = writer.search(unit(1, 0), k=10, access=EVERYONE, where=where).hits
    assert [hit.passage.document_id for hit in hits] == ["b"]
    assert "row_withheld reason=filter" in caplog.text


def test_a_tail_of_large_and_small_changes_answers_as_one(writer):
    views = 0
    for count in (1, 200, 3, 70, 60, 5, 1, 900, 2):
        rows = [
            (passage(f"d{views + n}", views=views + n, kind="new"), unit(1, 2 + views + n))
            for n in range(count)
        ]
        writer.upsert(delta(rows))
        views += count
    for _ in range(600):
        writer.upsert(delta([(passage(f"s{views}", views=views, kind="new"), unit(1, 2 + views))]))
        views += 1
    for form, expected in [
        ({"kind": "new"}, list(range(20))),
        ({"kind": "new", "views": {"gte": 333}}, list(range(333, 353))),
        ({"kind": "new", "views": {"in": [0, 1, 203, 1241, views - 1]}},
         [0, 1, 203, 1241, views - 1]),
    ]:  # fmt: skip
        where = parse_filter(form, writer.metadata_columns)
        hits = writer.search(unit(1, 0), k=20, access=EVERYONE, where=where).hits
        assert [hit.passage.metadata["views"] for hit in hits] == expected
