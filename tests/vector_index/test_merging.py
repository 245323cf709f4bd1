"""Merges: in a process of their own, adopted with what died meanwhile, cleared when they fail."""

import logging
import os
import sys
import time
from dataclasses import replace

import pyarrow as pa
import pytest
from by_hand import random_delta, random_settings, source

from vector_index import tiers
from vector_index.errors import WriteFailed
from vector_index.fulltext import dead_share
from vector_index.generation import FULLTEXT
from vector_index.local import LocalIndex
from vector_index.merge import Merge
from vector_index.options import WriterOptions
from vector_index.writer import IndexWriter


def keys(first, last):
    return [f"doc-{number}" for number in range(first, last)]


def open_writer(home, **options):
    return IndexWriter(home, random_settings(), options=WriterOptions(**options))


@pytest.fixture
def home(tmp_path):
    with open_writer(tmp_path / "docs") as writer:
        writer.publish(random_delta(keys(0, 50)), source())
    return tmp_path / "docs"


def _many_segments(writer, count, rows=4):
    for number in range(count):
        first = 100 + number * rows
        writer.upsert(random_delta(keys(first, first + rows), seed=number))
        writer.flush()


def test_merge_now_leaves_one_segment_and_takes_deleted_text_off_the_disk(home):
    with open_writer(home, merges=False, kept_generations=1) as writer:
        _many_segments(writer, 3)
        writer.delete(["doc-7"])
        expected = {key: value for key, value in writer.documents().items() if key != "doc-7"}
        assert _is_on_disk(home, b"text of doc-7")
        writer.merge_now()
        (segment,) = writer.stats().segments
        assert (segment.documents, segment.dead_documents) == (61, 0)
        assert writer.documents() == expected
    assert not _is_on_disk(home, b"text of doc-7")
    assert _is_on_disk(home, b"text of doc-8")


def _is_on_disk(home, text):
    """Texts follow each other in a file: the next one begins with a t, or padding does."""
    contents = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    return any(text + end in content for content in contents for end in (b"t", b"\0"))


def test_deaths_during_a_merge_are_in_the_merged_segment(home):
    with open_writer(home, merges=False) as writer:
        _many_segments(writer, 3)
        writer._merging.start_all(writer.generation())
        writer.upsert(random_delta(["doc-5", "doc-104"], seed=77))
        writer.delete(["doc-6", "doc-100"])
        writer._merging.wait()
        view = writer.view()
        expected = writer.documents()
        writer.flush()
        assert len(writer.stats().segments) == 2
        assert writer.documents() == expected
        writer.delete(["doc-8"])
        assert view.documents() == expected
    assert LocalIndex(home, random_settings()).documents() == expected


def test_enough_small_flushes_start_a_merge_by_themselves_that_no_flush_waits_for(home):
    with open_writer(home) as writer:
        _many_segments(writer, 3)
        assert len(writer.stats().segments) == 4
        writer._merging.wait()
        writer.upsert(random_delta(["last"], seed=1))
        writer.flush()
        assert len(writer.stats().segments) == 2
        assert writer.count() == (63, 63)


@pytest.mark.parametrize("how", ["killed", "failing"])
def test_a_merge_that_dies_changes_nothing_and_is_cleared_away(home, how, caplog):
    with open_writer(home, merges=False) as writer:
        _many_segments(writer, 3)
        expected = writer.documents()
        writer._merging.start_all(writer.generation())
        merge = writer._merging._merge
        if how == "killed":
            os.kill(merge._process.pid, 9)
        else:
            (merge.job.target / "passages").write_text("in the way of a folder")
        merge.wait()
        with caplog.at_level(logging.WARNING):
            writer.upsert(random_delta(["last"], seed=1))
            writer.flush()
        assert "merge_failed" in caplog.text
        assert writer.documents().keys() == {*expected, "last"}
        assert len(writer.stats().segments) == 5
        assert not list((home / "generations").glob(".*"))
        writer.merge_now()
        assert len(writer.stats().segments) == 1


def test_a_merge_survives_the_pruning_of_the_generation_it_reads(home):
    with open_writer(home, merges=False) as writer:
        _many_segments(writer, 3)
        merged = writer.generation().folder
        writer._merging.start_all(writer.generation())
        for number in range(4):
            writer.upsert(random_delta([f"more-{number}"], seed=number))
            # A flush of a running merge; when it has ended, it is adopted.
            writer.flush()
        writer._merging.wait()
        writer.flush()
        writer.upsert(random_delta(["end"], seed=1))
        writer.flush()
        assert writer.count() == (67, 67)
        assert not merged.exists()


def test_a_big_enough_merge_before_a_publish_runs_in_another_process(home):
    with open_writer(home, in_process_rows=0) as writer:
        for number in range(4):
            writer.publish(random_delta([f"new-{number}"], seed=number), source(number))
        assert len(writer.stats().segments) == 2
        assert writer.count() == (54, 54)


def test_closing_ends_a_running_merge(home):
    writer = open_writer(home, merges=False)
    _many_segments(writer, 2)
    writer._merging.start_all(writer.generation())
    process = writer._merging._merge._process
    writer.close()
    assert process.poll() is not None
    for _ in range(100):
        if not list((home / "generations").glob(".merge*")):
            return
        time.sleep(0.05)
    pytest.fail("the merge's folder is still there")


def test_deleted_text_leaves_the_disk_also_where_one_clean_segment_is_left(home):
    with open_writer(home, merges=False, kept_generations=1) as writer:
        for number in range(7):  # full text joins eight
            writer.upsert(random_delta([f"word{number}"], seed=number))
            writer.flush()
        writer.delete([*keys(0, 50), *(f"word{number}" for number in range(6))])
        writer.flush()
        assert [s.dead_documents for s in writer.stats().segments] == [0]
        assert dead_share(writer.generation().folder / FULLTEXT) > 0.9
        writer.merge_now()
        assert dead_share(writer.generation().folder / FULLTEXT) == 0
        assert writer.generation().text.passages_with("text", "word3") == 0
        assert writer.documents() == {"word6": "word6-6"}


def test_a_full_merge_leaves_no_other_merge_running_beside_it(home, monkeypatch):
    monkeypatch.setattr(tiers, "SMALLEST_TIER_ROWS", 8)
    started = []
    start = Merge.start
    monkeypatch.setattr(Merge, "start", lambda self: (started.append(self), start(self)))
    with open_writer(home, merges=False) as writer:
        for number, rows in enumerate([20, 20, 20, 4, 4, 4]):
            writer.upsert(random_delta(keys(100 * number, 100 * number + rows)))
            writer.flush()
    with open_writer(home) as writer:
        writer.upsert(random_delta(["fourth"]))
        writer.merge_now()
        assert len(started) == 3
        assert [merge._process.returncode for merge in started].count(None) == 0
        assert len(writer.stats().segments) == 1
        assert not list((home / "generations").glob(".*"))


def test_a_merged_segment_that_cannot_be_opened_does_not_stop_the_writer(home, caplog):
    with open_writer(home, merges=False) as writer:
        _many_segments(writer, 3)
        writer._merging.start_all(writer.generation())
        writer._merging.wait()
        target = writer._merging._merge.job.target
        for path in target.rglob("*.arrow"):
            path.write_bytes(b"damaged")
        writer.upsert(random_delta(["last"], seed=1))
        writer.flush()
        assert "merge_failed" in caplog.text
        assert writer.count() == (63, 63)
        writer.merge_now()
        assert len(writer.stats().segments) == 1


def test_a_merge_before_a_publish_that_fails_in_native_code_does_not_stop_it(home, monkeypatch):
    def fails(*_):
        raise RuntimeError("Error in void faiss::write_index")

    with open_writer(home) as writer:
        for number in range(3):
            writer.publish(random_delta([f"new-{number}"], seed=number), source(number))
        monkeypatch.setattr("vector_index.merge.merge_vectors", fails)
        writer.publish(random_delta(["last"]), source(9))
        assert writer.count() == (54, 54)


def test_a_merge_imports_nothing_from_the_folder_that_the_server_was_started_in(
    home, tmp_path, monkeypatch
):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    with open_writer(home, merges=False) as writer:
        _many_segments(writer, 2)
        writer.merge_now()
        assert len(writer.stats().segments) == 1


def test_a_document_without_passages_outlives_a_merge_of_its_dead_neighbours(home):
    with open_writer(home, merges=False) as writer:
        empty = random_delta([])
        documents = pa.table({"document_id": ["empty"], "document_hash": ["h"]})
        writer.upsert(replace(empty, documents=documents.cast(empty.documents.schema)))
        writer.delete(keys(0, 50))
        writer.flush()
        writer.upsert(random_delta(["a"], seed=1))
        writer.flush()
        writer.delete(["a"])
        writer.upsert(random_delta(["b"], seed=1))
        writer.merge_now()
        assert writer.documents() == {"empty": "h", "b": "b-1"}
        writer.delete(["b"])
        writer.merge_now()
        assert writer.documents() == {"empty": "h"}


def test_a_full_merge_that_fails_says_so(home, monkeypatch):
    with open_writer(home) as writer:
        writer.delete(["doc-7"])
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "false")
            with pytest.raises(WriteFailed, match="'docs' could not be merged"):
                writer.merge_now()
        assert writer.stats().segments[0].dead_documents == 1
        writer.merge_now()
        assert writer.stats().segments[0].dead_documents == 0
