"""What a sync reads, embeds and publishes is in proportion to what changed."""

import threading

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from worlds import CountingEmbedder, World, rows

from pipelines.sources.delta_snapshot import DeltaSnapshot
from pipelines.sync import sync
from vector_index.errors import IndexBusy, IndexMoved
from vector_index.history import rollback
from vector_index.local import LocalIndex


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.sync()
    world.embedder.texts.clear()
    return world


def refuse(*_):
    raise AssertionError("this would cost as much as the whole table")


def test_an_unchanged_table_is_neither_opened_nor_compared(world, monkeypatch):
    world.source.version()
    monkeypatch.setattr("pipelines.sources.delta.DeltaTable", refuse)
    monkeypatch.setattr(LocalIndex, "documents", refuse)
    report = world.sync()
    assert (report.mode, report.is_noop) == ("noop", True)


def test_changed_keys_are_read_and_nothing_else(world, monkeypatch):
    read = []
    real = DeltaSnapshot.rows
    monkeypatch.setattr(DeltaSnapshot, "hashes", refuse)
    monkeypatch.setattr(LocalIndex, "documents", refuse)
    monkeypatch.setattr(DeltaSnapshot, "rows", lambda self, keys: read.append(set(keys)) or
                        real(self, keys))  # fmt: skip
    world.upsert(rows(["3", "new"], body="changed"))
    world.delta.delete("id = '5'")
    report = world.sync()
    assert (report.mode, report.changed, report.removed) == ("incremental", 2, 1)
    assert read == [{"3", "5", "new"}]
    monkeypatch.undo()
    world.check()


def test_of_many_changes_of_a_key_only_the_last_counts(world):
    world.upsert(rows(["3"], body="first"))
    world.delta.delete("id = '3'")
    world.upsert(rows(["3", "4"], body="second"))
    world.delta.delete("id = '4'")
    world.upsert(rows(["7"], body="there and"))
    world.upsert(rows(["7"]))
    report = world.sync()
    assert (report.mode, report.changed, report.removed) == ("incremental", 1, 1)
    assert {text.split()[0] for text in world.embedder.texts} == {"second"}
    world.check()


def test_metadata_and_access_alone_embed_nothing_and_are_in_force(world):
    world.upsert(rows(["1"], views=7))
    world.upsert(rows(["2"], groups=["board"]))
    world.upsert(rows(["3"], tenant="other"))
    report = world.sync()
    assert (report.changed, report.embedded, world.embedder.texts) == (3, 0, [])
    world.check()


def test_a_text_that_any_document_has_is_embedded_only_once(world):
    text = "title, words that two new documents and an old one share"
    world.upsert(rows(["1"]).set_column(2, "body", pa.array([text])))
    world.sync()
    world.embedder.texts.clear()
    moved = rows(["x", "y"]).set_column(2, "body", pa.array([text, text]))
    world.upsert(moved)
    report = world.sync()
    assert (report.changed, world.embedder.texts) == (2, [])
    world.check()


def test_commits_that_change_no_row_move_the_cursor_alone(world):
    world.append(rows(["a"]))
    world.sync()
    world.embedder.texts.clear()
    world.delta.optimize.compact()
    world.delta.optimize.z_order(["id"])
    world.delta.vacuum(0, dry_run=False, enforce_retention_duration=False)
    report = world.sync()
    assert (report.mode, report.changed, report.removed) == ("incremental", 0, 0)
    assert world.embedder.texts == []
    world.check()


def test_commits_of_other_writers_during_a_sync_wait_for_the_next_one(world):
    class Meanwhile(CountingEmbedder):
        def embed_passages(self, texts, *, on_progress=None):
            world.delta.delete("id = '1'")
            world.upsert(rows(["2"], body="later"))
            return super().embed_passages(texts, on_progress=on_progress)

    world.upsert(rows(["1"], body="changed"))
    report = sync(world.source, world.index, Meanwhile(), world.chunk)
    assert report.version.source.version == 1
    assert world.index.documents().keys() == {str(n) for n in range(20)}
    world.sync()
    world.check()


def test_of_two_syncs_at_once_one_publishes_and_the_other_is_told(world):
    inside, go_on = threading.Event(), threading.Event()

    class Slow(CountingEmbedder):
        def embed_passages(self, texts, *, on_progress=None):
            inside.set()
            assert go_on.wait(30)
            return super().embed_passages(texts, on_progress=on_progress)

    world.upsert(rows(["1"], body="changed"))
    other = world.open_index()
    reports = []
    thread = threading.Thread(
        target=lambda: reports.append(sync(world.source, other, Slow(), world.chunk))
    )
    thread.start()
    try:
        assert inside.wait(30)
        with pytest.raises(IndexBusy, match="another process is syncing index 'docs'"):
            world.sync()
    finally:
        go_on.set()
        thread.join()
    assert [report.changed for report in reports] == [1]
    assert world.sync().is_noop
    world.check()


def test_a_sync_whose_index_was_rolled_back_meanwhile_publishes_nothing(world):
    home = world.folder / "index"
    world.upsert(rows(["1"], body="changed"))
    world.sync()

    class Rollback(CountingEmbedder):
        def embed_passages(self, texts, *, on_progress=None):
            rollback(home, 1)
            return super().embed_passages(texts, on_progress=on_progress)

    world.upsert(rows(["2"], body="changed"))
    with pytest.raises(IndexMoved, match="the change was made for generation 2-"):
        sync(world.source, world.index, Rollback(), world.chunk)
    assert world.index.version().number == 2
    assert world.open_index().version().number == 1
    report = world.sync()
    assert (report.mode, report.changed) == ("incremental", 2)
    world.check()


def test_a_table_without_a_feed_is_compared_row_by_row(tmp_path):
    world = World(tmp_path, feed=False)
    assert world.sync().reason == "nothing was indexed yet"
    world.upsert(rows(["3"], body="changed"))
    report = world.sync()
    assert (report.mode, report.changed) == ("diff", 1)
    assert "keeps no change data feed" in report.reason
    world.check()


def test_a_feed_that_misses_a_change_is_found_out_by_the_number_of_rows(world, monkeypatch):
    world.append(rows(["x", "y"]))
    real = DeltaTable.load_cdf
    monkeypatch.setattr(
        DeltaTable, "load_cdf",
        lambda self, *a, **o: pa.table(real(self, *a, **o)).slice(1).to_reader(),
    )  # fmt: skip
    report = world.sync()
    assert (report.mode, report.changed) == ("diff", 2)
    assert "the feed leads to 21 documents, and the table has 22 rows" in report.reason
    world.check()


def test_touched_rows_that_are_too_many_to_keep_are_read_again(world, monkeypatch):
    monkeypatch.setattr("pipelines.changes._KEPT_BYTES", 100)
    world.upsert(rows(["3", "4", "new"], body="changed"))
    world.delta.delete("id = '5'")
    report = world.sync()
    assert (report.mode, report.changed, report.removed) == ("incremental", 3, 1)
    world.check()
