"""What the one writer of an index promises beyond the contract: crashes, threads, merges."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from by_hand import EVERYONE, random_delta, random_settings, random_vectors, source

from vector_index.errors import IndexBusy, IndexFull
from vector_index.local import LocalIndex
from vector_index.options import WriterOptions
from vector_index.passages import cosine_of
from vector_index.query import Wanted
from vector_index.tail import TailLimits
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


def found(index, vector, k=10):
    return [h.passage.document_id for h in index.search(vector, k=k, access=EVERYONE).hits]


def abandon(writer):
    """What a kill leaves: no flush; the kernel drops the lock."""
    writer._merging.discard()
    writer._logs.rotate()
    writer._held.release()


def test_changes_of_a_writer_that_died_are_there_for_the_next_one(home):
    writer = open_writer(home)
    version = writer.upsert(random_delta(keys(48, 52), seed=1, removed=["doc-0"]))
    writer.delete(["doc-1"], source=source(3))
    expected = writer.documents()
    abandon(writer)
    with open_writer(home) as again:
        assert again.documents() == expected
        assert again.version().sequence == version.sequence + 1
        assert again.version().source == source(3)
        assert found(again, random_vectors(1, 4)[3], k=1) == ["doc-51"]


def test_the_log_is_empty_once_a_flush_holds_what_was_in_it(home):
    with open_writer(home) as writer:
        writer.upsert(random_delta(["new"], seed=1))
        assert len(list((home / "wal").iterdir())) == 1
        writer.flush()
        assert list((home / "wal").iterdir()) == []
    assert "new" in LocalIndex(home, random_settings()).documents()


def test_a_log_that_outlived_its_flush_is_not_applied_twice(home):
    writer = open_writer(home)
    writer.upsert(random_delta(["new"], seed=1))
    (log,) = (home / "wal").iterdir()
    content = log.read_bytes()
    writer.flush()
    writer.publish(random_delta(["new"], seed=2), source(1))
    log.write_bytes(content)
    abandon(writer)
    with open_writer(home) as again:
        assert again.documents()["new"] == "new-2"


def test_a_reader_sees_changes_from_the_flush_on(home):
    reader = LocalIndex(home, random_settings())
    with open_writer(home) as writer:
        writer.upsert(random_delta(["new"], seed=1))
        assert not reader.refresh()
        writer.flush()
        assert reader.refresh()
    assert "new" in reader.documents()


def test_a_second_writer_is_refused_until_the_first_is_closed(home):
    with open_writer(home), pytest.raises(IndexBusy):
        open_writer(home)
    open_writer(home).close()


def test_a_full_tail_is_flushed_before_the_change_that_does_not_fit(home):
    with open_writer(home, tail=TailLimits(rows=8)) as writer:
        for number in range(20):
            writer.upsert(random_delta([f"new-{number}"], seed=number))
        assert writer.version().number == 3
        assert writer.stats().tail_documents == 4
        assert writer.count() == (70, 70)


@pytest.mark.parametrize("limits", [TailLimits(rows=8), TailLimits(size_bytes=1000)])
def test_a_change_larger_than_a_whole_tail_is_refused_by_name(home, limits):
    with open_writer(home, tail=limits) as writer:
        with pytest.raises(IndexFull, match="9 rows"):
            writer.upsert(random_delta(keys(0, 9), seed=1))
        assert writer.documents()["doc-0"] == "doc-0-0"


def test_a_log_of_a_wider_tail_is_replayed_under_narrower_limits(home):
    writer = open_writer(home)
    for first in (0, 20, 40):
        writer.upsert(random_delta(keys(first, first + 20), seed=first + 1))
    expected = writer.documents()
    abandon(writer)
    with open_writer(home, tail=TailLimits(rows=8)) as again:
        assert again.documents() == expected
        again.flush()
        assert again.documents() == expected


@pytest.mark.parametrize("mode", ["ann", "full_text", "hybrid"])
def test_a_view_never_changes_its_answer(home, mode):
    wanted = Wanted(random_vectors(9, 1)[0], "text of doc", mode, k=60)
    with open_writer(home) as writer:
        views, answers = [], []
        for number in range(30):
            views.append(writer.view())
            answers.append(views[-1].search(wanted, access=EVERYONE, where=None))
            writer.upsert(random_delta([f"doc-{number}"], seed=number, removed=["doc-49"]))
            if number % 7 == 0:
                writer.flush()
            if number % 10 == 0:
                writer.publish(random_delta([f"doc-{number + 1}"], seed=99), source(number))
        for view, answer in zip(views, answers, strict=True):
            again = view.search(wanted, access=EVERYONE, where=None)
            assert cosines(again) == pytest.approx(cosines(answer))
            assert again.version == answer.version
            if mode == "ann":  # how rare a word is may be newer than the view
                assert [h.passage for h in again.hits] == [h.passage for h in answer.hits]


def cosines(result):
    # Sums may be taken in another order as rows die.
    return {hit.passage.passage_id: cosine_of(hit) for hit in result.hits}


def test_every_search_sees_a_replaced_document_exactly_once_while_all_else_goes_on(home):
    problems, done = [], threading.Event()
    writer = open_writer(home, tail=TailLimits(rows=64), is_synced=False)
    hot = keys(0, 50)

    def read(seed):
        query = random_vectors(seed, 1)[0]
        last = 0
        while not done.is_set():
            result = writer.search(query, k=200, access=EVERYONE)
            seen = [hit.passage.document_id for hit in result.hits]
            if sorted(seen) != sorted(hot):
                problems.append(("not each exactly once", len(seen), len(set(seen))))
            if result.version.sequence < last:
                problems.append(("went back", last, result.version.sequence))
            last = result.version.sequence

    def flush():
        while not done.is_set():
            writer.flush()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    threads.append(threading.Thread(target=flush))
    for thread in threads:
        thread.start()
    random = np.random.default_rng(0)
    for step in range(300):
        chosen = random.choice(hot, size=random.integers(1, 5), replace=False).tolist()
        if step % 50 == 25:
            writer.publish(random_delta(chosen, seed=step), source(step))
        else:
            writer.upsert(random_delta(chosen, seed=step))
    done.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert problems == []


def words(index, text):
    hits = index.search(None, k=100, access=EVERYONE, text=text, mode="full_text").hits
    return {hit.passage.document_id for hit in hits}


def test_words_of_a_change_are_found_at_once_and_those_of_a_delete_never_again(home):
    with open_writer(home) as writer:
        writer.upsert(random_delta(["fresh", "doc-1"], seed=1, removed=["doc-2"]))
        for _ in range(2):
            assert words(writer, "fresh") == {"fresh"}
            assert words(writer, "text") == {*keys(0, 50), "fresh"} - {"doc-2"}
            assert words(writer, "2") == set()
            writer.flush()
        assert words(LocalIndex(home, random_settings()), "fresh") == {"fresh"}


def test_deleted_words_leave_the_disk_with_a_full_merge(home):
    with open_writer(home, kept_generations=1) as writer:
        writer.upsert(random_delta(["zyzzyva"]))
        writer.flush()
        assert on_disk(home, b"zyzzyva")
        writer.delete(["zyzzyva"])
        writer.merge_now()
        writer.publish(random_delta(["doc-3"], seed=5), source(1))
        assert words(writer, "zyzzyva") == set()
    assert on_disk(home, b"zyzzyva") == []


def on_disk(home, text):
    return [path for path in home.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_changes_go_on_while_a_flush_writes(home, monkeypatch):
    writer = open_writer(home)
    writer.upsert(random_delta(["first"], seed=1))
    reached, go_on = threading.Event(), threading.Event()
    rename = Path.rename

    def slow(self, target):
        if ".draft" in self.name:
            reached.set()
            assert go_on.wait(20)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    flushing = threading.Thread(target=writer.flush)
    flushing.start()
    assert reached.wait(20)
    writer.upsert(random_delta(["second"], seed=2))
    writer.delete(["first", "doc-3"])
    go_on.set()
    flushing.join()
    expected = {*keys(0, 50), "second"} - {"doc-3"}
    assert writer.documents().keys() == expected
    reader = LocalIndex(home, random_settings())
    assert reader.documents().keys() == {*keys(0, 50), "first"}
    abandon(writer)
    with open_writer(home) as again:
        assert again.documents().keys() == expected
        again.flush()
    assert reader.refresh()
    assert reader.documents().keys() == expected


def test_generations_are_kept_as_many_as_configured(home):
    with open_writer(home, kept_generations=4) as writer:
        for number in range(6):
            writer.publish(random_delta(["new"], seed=number), source(number))
    numbers = sorted(int(p.name.split("-")[0]) for p in (home / "generations").iterdir())
    assert numbers == [4, 5, 6, 7]


def test_small_segments_of_a_trained_kind_are_flat_and_say_so(tmp_path):
    settings = random_settings("ivf_flat")
    with IndexWriter(tmp_path / "docs", settings) as writer:
        writer.publish(random_delta(keys(0, 5)), source())
        (segment,) = writer.stats().segments
        assert segment.kind == "flat"
        writer.publish(random_delta(keys(10, 3000), seed=1), source(1))
        assert [s.kind for s in writer.stats().segments] == ["flat", "ivf_flat"]
    with IndexWriter(tmp_path / "docs", settings) as writer:
        assert found(writer, random_vectors(1, 2990)[7], k=1) == ["doc-17"]


def test_auto_keeps_to_the_memory_budget_and_a_merge_to_that_of_the_day(tmp_path):
    settings = replace(random_settings("auto"), memory_bytes=2500 * 16 * 4)
    home = tmp_path / "docs"
    with IndexWriter(home, settings) as writer:
        writer.publish(random_delta(keys(0, 2500)), source())
        (segment,) = writer.stats().segments
        assert (segment.kind, "exact scan" in segment.reason) == ("flat", True)
    less = replace(settings, memory_bytes=5000 * (16 + 8))
    with IndexWriter(home, less) as writer:
        writer.publish(random_delta(keys(2500, 5000), seed=1), source(1))
        old, new = writer.stats().segments
        assert (old.kind, new.kind) == ("flat", "ivf_sq8")
        assert old.reason.startswith("ivf_sq8 if written now: ")
        writer.merge_now()
        (segment,) = writer.stats().segments
        assert (segment.kind, segment.passages) == ("ivf_sq8", 5000)
    assert LocalIndex(home, settings).version().number == 3


def test_an_index_of_kind_auto_opens_again(tmp_path):
    settings = random_settings("auto")
    LocalIndex(tmp_path / "docs", settings).publish(random_delta(keys(0, 5)), source())
    assert len(LocalIndex(tmp_path / "docs", settings).documents()) == 5
