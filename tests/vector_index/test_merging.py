"""Merges: in a process of their own, adopted with what died meanwhile, cleared when they fail."""

import logging
import os
import time

import pytest
from by_hand import random_delta, random_settings, source

from vector_index.local import LocalIndex
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
