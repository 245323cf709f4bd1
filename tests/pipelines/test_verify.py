"""A real index against a small table in memory; wrong rows are planted through the writer."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.chunking import token_chunker
from pipelines.errors import IndexBehind
from pipelines.inspection import Columns, inspect
from pipelines.verify import compare, compare_newest, repair
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    EmbedderIdentity,
    IndexDelta,
    Passage,
    SourceVersion,
    passages_to_table,
)
from vector_index.writer import IndexWriter

EMBEDDER = HashingEmbedder(32)
CHUNK = token_chunker(None, 6)
COLUMNS = Columns("id", "title", "body", "tenant", "groups")
MOMENT = datetime(2026, 11, 25, tzinfo=UTC)


def version(number):
    return SourceVersion("table", number, "fp", MOMENT)


class Pinned:
    """A snapshot of rows in memory."""

    def __init__(self, rows, number=1):
        self.table, self.version = pa.Table.from_pylist(rows), version(number)

    def hashes(self):
        return {row["id"]: row_hash(row) for row in self.table.to_pylist()}

    def rows(self, keys):
        wanted = pc.is_in(self.table["id"], pa.array(sorted(keys), pa.string()))
        return iter(self.table.filter(wanted).to_batches(max_chunksize=7))


def row_hash(row):
    return hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()


def row(key, body=None):
    text = body or f"words about number {key}, and then a good many more of them to cut in two"
    return {"id": key, "title": f"title {key}", "body": text, "tenant": "acme", "groups": ["staff"]}


def delta(rows, *, removed=(), hashes=None, embedder=EMBEDDER, **changes):
    """What a sync would publish of these rows; `changes` are made to every passage."""
    passages = [
        replace(
            Passage(
                document_id=row["id"], ordinal=ordinal, title=row["title"], text=piece.text,
                start=piece.start, end=piece.end, text_hash=piece.text_hash, tenant="acme",
                allowed_groups=("staff",),
            ), **changes,
        )
        for row in rows
        for ordinal, piece in enumerate(CHUNK(row["body"]))
    ]  # fmt: skip
    ids = [row["id"] for row in rows]
    listed = [(hashes or {}).get(row["id"], row_hash(row)) for row in rows]
    documents = pa.table([pa.array(ids, pa.string()), pa.array(listed, pa.string())],
                         schema=DOCUMENT_SCHEMA)  # fmt: skip
    vectors = embedder.embed_passages([passage.text for passage in passages])
    return IndexDelta(documents, passages_to_table(passages, {}), vectors, frozenset(removed))


@pytest.fixture
def rows():
    return [row(f"{number:03}") for number in range(50)]


@pytest.fixture
def index(tmp_path, rows):
    info = EMBEDDER.info
    identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
    settings = IndexSettings("docs", "flat", identity, {}, {}, has_tenant=True, has_groups=True)
    index = LocalIndex(tmp_path / "index", settings)
    index.publish(delta(rows), version(1))
    return index


def plant(index, change=None, *, deleted=()):
    """Wrong rows under the version that the index has anyway."""
    with IndexWriter(index._home, index.settings) as writer:
        if change is not None:
            writer.upsert(change)
        if deleted:
            writer.delete(deleted)
        writer.flush()
    index.refresh()


def test_an_index_equal_to_its_table_shows_no_drift(index, rows):
    drift = compare(Pinned(rows), index)
    assert (drift.is_equal, drift.checked, drift.keys()) == (True, 50, frozenset())


def test_each_sort_of_planted_row_is_found_and_named(index, rows):
    other = {"003": "another hash"}
    plant(index, delta([rows[3], row("stray")], hashes=other), deleted=["001", "002"])
    drift = compare(Pinned(rows), index)
    assert drift.missing == ("001", "002")
    assert drift.extra == ("stray",)
    assert drift.changed == ("003",)
    assert drift.checked == 51
    report = drift.report(examples=1)
    assert (report.missing, report.missing_examples) == (2, ("001",))


def test_a_repair_applies_just_the_keys_that_differ_and_leaves_an_equal_index(index, rows):
    plant(index, delta([rows[3], row("stray")], hashes={"003": "x"}), deleted=["001"])
    pinned, asked = Pinned(rows), []

    def apply(write, remove):
        asked.append((write, remove))
        again = [one for one in rows if one["id"] in write]
        index.publish(delta(again, removed=remove), index.version().source)

    drift = compare(pinned, index)
    assert repair(pinned, index, drift, apply).is_equal
    assert asked == [({"001", "003"}, {"stray"})]
    assert repair(pinned, index, compare(pinned, index), apply).is_equal
    assert len(asked) == 1


def test_a_repair_that_repairs_nothing_says_so(index, rows):
    plant(index, deleted=["001"])
    pinned = Pinned(rows)
    drift = repair(pinned, index, compare(pinned, index), lambda write, remove: None)
    assert drift.missing == ("001",)


def test_a_row_in_quarantine_is_not_missing_until_it_changes(index, rows):
    plant(index, deleted=["001", "002"])
    aside = {"001": row_hash(rows[1]), "002": "the hash it had before"}
    drift = compare(Pinned(rows), index, set_aside=aside)
    assert (drift.missing, drift.quarantined) == (("002",), 1)


def test_keys_touched_since_the_indexed_version_are_pending_and_no_drift(index, rows):
    plant(index, deleted=["001"])
    newer = Pinned([row("000", "rewritten"), *rows[1:-1], row("new")], number=2)
    pinned, drift = compare_newest(lambda: newer, index, lambda since, to: {"000", "049", "new"})
    assert pinned is newer
    assert (drift.missing, drift.extra, drift.changed) == (("001",), (), ())
    assert drift.waiting == {"000", "049", "new"}
    assert (drift.indexed.version, drift.version.version) == (1, 2)


def test_an_index_behind_by_unknown_keys_is_to_be_synced_first(index, rows):
    with pytest.raises(IndexBehind, match="at table version 1, the table at 2"):
        compare_newest(lambda: Pinned(rows, number=2), index, lambda since, to: None)


def test_an_index_that_moves_while_it_is_read_is_read_again(index, rows):
    class Moving:
        moves = 1

        def version(self):
            return index.version()

        def documents(self):
            if self.moves:
                self.moves -= 1
                found = index.documents()
                index.publish(delta([row("new")]), version(2))
                return found
            return index.documents()

    drift = compare(Pinned([*rows, row("new")], number=2), Moving())
    assert (drift.is_equal, drift.indexed) == (True, version(2))
    restless = Moving()
    restless.moves = 100
    with pytest.raises(IndexBehind, match="published 5 times"):
        compare(Pinned(rows), restless)


@pytest.fixture(params=["by scan", "by id"])
def reading(request, index):
    return None if request.param == "by scan" else index.read


def look(index, rows, **options):
    return inspect(Pinned(rows), index, COLUMNS, **options)


def test_a_sound_index_has_no_faults_and_its_vectors_are_the_embedders(index, rows):
    found = look(
        index, rows, sample=None, embedder=EMBEDDER, read_vectors=index.read_vectors, embedded=10
    )
    assert (found.documents, found.faults) == (50, ())
    assert found.passages > 100
    assert found.vectors == found.passages / 5
    assert found.least_cosine == pytest.approx(1.0)


def test_a_sample_is_of_the_size_asked_for_and_the_same_for_a_seed(index, rows):
    assert look(index, rows, sample=7).documents == 7
    plant(index, delta(rows, title="wrong"))
    assert look(index, rows, sample=7, seed=3) == look(index, rows, sample=7, seed=3)
    assert look(index, rows, sample=7, seed=3) != look(index, rows, sample=7, seed=4)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"title": "stolen"}, "another title"),
        ({"tenant": "rival"}, "seen by others"),
        ({"allowed_groups": ("everyone",)}, "seen by others"),
        ({"text": "poison"}, "is not what its row says there"),
        ({"text_hash": "0"}, "not the hash of its text"),
        ({"ordinal": 9}, "is passage 9 of"),
    ],
)
def test_content_that_is_not_the_rows_is_found_though_its_hash_is_right(
    index, rows, wrong, problem, reading
):
    plant(index, delta(rows[5:6], **wrong))
    assert compare(Pinned(rows), index).is_equal
    found = look(index, rows, sample=None, read=reading)
    assert (found.documents, found.faulty()) == (50, {"005"})
    assert any(problem in fault.problem for fault in found.faults)


def test_text_that_no_passage_has_is_found(index, rows):
    whole = delta(rows[5:6])
    for first, problem in [(0, "has no passages"), (1, "the end of its row's text")]:
        short = replace(whole, passages=whole.passages[:first], vectors=whole.vectors[:first])
        plant(index, short)
        assert problem in str(look(index, rows, sample=None).faults)
    late = replace(whole, passages=whole.passages[1:], vectors=whole.vectors[1:])
    plant(index, late)
    assert "before passage 0 is in no passage" in str(look(index, rows, sample=None).faults)


def test_a_stored_vector_that_the_embedder_does_not_make_is_found(index, rows):
    wrong = delta(rows[5:6])  # other rows have some of its texts, and their right vectors
    plant(index, replace(wrong, vectors=np.roll(wrong.vectors, 1, axis=1)))
    found = look(
        index, rows, sample=None, embedder=EMBEDDER, read_vectors=index.read_vectors, embedded=50
    )
    assert found.faulty() == {"005"}
    assert found.least_cosine < 0.999


def test_faulty_documents_are_repaired_with_the_rest(index, rows):
    plant(index, delta(rows[5:6], title="wrong"), deleted=["001"])
    pinned, asked = Pinned(rows), []
    drift, faulty = compare(pinned, index), look(index, rows, sample=None).faulty()
    repair(pinned, index, drift, lambda write, remove: asked.append(write), faulty=faulty)
    assert asked == [{"001", "005"}]
