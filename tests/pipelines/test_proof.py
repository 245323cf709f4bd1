"""A real Delta table and its synced index, with wrong rows planted through the writer."""

from dataclasses import replace

import pytest
from worlds import CountingEmbedder, World, rows

from pipelines.errors import IndexBehind
from pipelines.proof import prove
from pipelines.reapply import applier
from vector_index.passages import DOCUMENT_SCHEMA, IndexDelta
from vector_index.view import View
from vector_index.writer import IndexWriter


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.sync()
    return world


def proved(world, **options):
    return prove(world.source, world.index, world.embedder, world.chunk, **options)


def content(view: View, key) -> IndexDelta:
    """What the index has of a document, to be planted again otherwise."""
    part = next(p for p in view.parts if len(p.find([key], view.version.sequence)))
    held = part.content(part.find([key], view.version.sequence))
    return IndexDelta(held.documents, held.passages, held.vectors, frozenset())


def plant(world, *changes, deleted=()):
    with IndexWriter(world.folder / "index", world.index.settings) as writer:
        for change in changes:
            writer.upsert(change)
        writer.delete(deleted)
        writer.flush()
    world.index.refresh()


def renamed(change, column, value):
    table = change.passages
    at = table.schema.get_field_index(column)
    values = [value] * table.num_rows
    return replace(change, passages=table.set_column(at, table.schema.field(at), [values]))


def rehashed(change, value="another hash"):
    documents = change.documents.set_column(1, DOCUMENT_SCHEMA.field(1), [[value]])
    return replace(change, documents=documents)


def test_a_synced_index_is_proved_equal_to_its_table(world):
    proof = proved(world)
    assert proof.is_equal
    assert (proof.drift.checked, proof.documents_read) == (20, 20)
    assert proof.vectors_compared >= 20
    assert proof.least_cosine == pytest.approx(1.0)


def test_planted_rows_are_found_and_a_repair_leaves_an_index_equal_to_the_table(world):
    view = world.index.view()
    stray = content(view, "5")
    plant(
        world,
        rehashed(content(view, "3")),
        renamed(content(view, "4"), "title", "stolen"),
        replace(
            renamed(stray, "document_id", "stray"),
            documents=stray.documents.set_column(0, DOCUMENT_SCHEMA.field(0), [["stray"]]),
        ),
        deleted=["1", "2"],
    )
    before, found = world.index.version(), proved(world)
    assert not found.is_equal
    assert (found.drift.missing, found.drift.extra, found.drift.changed) == (2, 1, 1)
    assert found.drift.missing_examples == ("1", "2")
    assert [fault.key for fault in found.faults[:1]] == ["4"]
    assert found.faulty == 1
    assert world.index.version() == before

    assert proved(world, repairs=True).is_equal
    world.check()
    assert proved(world).is_equal


def test_a_repair_embeds_anew_what_it_applies_and_nothing_else(world):
    plant(world, deleted=["1"])
    world.embedder.texts.clear()
    proved(world, repairs=True, sample=0)
    assert world.embedder.texts
    assert all("number 1" in text or text in "original words about number 1"
               for text in world.embedder.texts)  # fmt: skip


def test_commits_that_are_not_synced_yet_are_pending_and_a_repair_leaves_them_so(world):
    plant(world, deleted=["1"])
    world.upsert(rows(["2", "new"], body="changed"))
    world.delta.delete("id = '3'")
    found = proved(world)
    assert (found.drift.missing_examples, found.drift.pending) == (("1",), 3)
    assert (found.drift.changed, found.drift.extra) == (0, 0)
    at = world.index.version().source
    assert proved(world, repairs=True).is_equal
    assert world.index.version().source == at
    world.sync()
    world.check()


def test_an_index_behind_by_what_no_log_tells_is_to_be_synced_first(tmp_path):
    world = World(tmp_path, feed=False)
    world.sync()
    world.append(rows(["new"]))
    with pytest.raises(IndexBehind, match="sync the index, then verify it"):
        proved(world)
    world.sync()
    assert proved(world).is_equal


def test_keys_are_not_applied_to_an_index_that_has_moved_on(world):
    snapshot, at = world.source.snapshot(), world.index.version().source
    apply = applier(snapshot, world.index, world.embedder, world.chunk, under=at)
    world.append(rows(["new"]))
    world.sync()
    before = world.index.version()
    with pytest.raises(IndexBehind, match="from table version 0 to 1 meanwhile"):
        apply(frozenset({"1"}), frozenset())
    assert world.index.version() == before


def test_what_is_in_quarantine_as_it_is_in_the_table_is_not_missing(world):
    plant(world, deleted=["1"])
    held = {"1": world.source.snapshot().hashes()["1"]}
    proof = proved(world, set_aside=held)
    assert (proof.is_equal, proof.drift.quarantined) == (True, 1)


def test_a_vector_of_another_embedder_shows_in_the_cosine(world):
    other = CountingEmbedder()
    held = content(world.index.view(), "7")
    texts = [text[::-1] for text in held.passages["text"].to_pylist()]
    plant(world, replace(held, vectors=other.embed_passages(texts)))
    proof = proved(world)
    assert (proof.drift.is_equal, proof.faulty, proof.is_equal) == (True, 1, False)
    assert proof.least_cosine < 0.999
    assert proved(world, repairs=True).is_equal
    assert proved(world).is_equal
