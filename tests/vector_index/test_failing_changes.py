"""A change, flush or merge that fails leaves the writer as it was, and able to go on."""

import numpy as np
import pytest
from by_hand import random_delta, random_settings, source

from vector_index import disk
from vector_index import writer as writer_module
from vector_index.deaths import Deaths
from vector_index.errors import InvalidDelta, WriteFailed, WriterClosed
from vector_index.local import LocalIndex
from vector_index.options import WriterOptions
from vector_index.tail import Tail, TailLimits
from vector_index.writer import IndexWriter


def open_writer(home, **options):
    return IndexWriter(home, random_settings(), options=WriterOptions(**options))


@pytest.fixture
def home(tmp_path):
    with open_writer(tmp_path / "docs") as writer:
        writer.publish(random_delta(["old-1", "old-2"]), source())
    return tmp_path / "docs"


def test_a_delete_of_an_id_that_is_no_text_is_refused_and_kills_nobody(home):
    with open_writer(home) as writer:
        writer.upsert(random_delta(["new"], seed=1))
        with pytest.raises(InvalidDelta, match="ud800"):
            writer.delete(["new", "old-1", "\ud800"])
        writer.upsert(random_delta(["next"], seed=2))
        assert writer.documents().keys() == {"old-1", "old-2", "new", "next"}


def test_a_delete_of_one_id_that_is_not_in_a_collection_is_refused(home):
    with open_writer(home) as writer, pytest.raises(InvalidDelta, match="'old-1'"):
        writer.delete("old-1")


def test_a_kill_that_fails_halfway_is_taken_back(home, monkeypatch):
    with open_writer(home) as writer:
        writer.upsert(random_delta(["new"], seed=1))
        keys = type(writer.generation().layers[0].segment.keys)

        def fails(self, document_ids):
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(keys, "find_many", fails)
            with pytest.raises(MemoryError):
                writer.delete(["new"])
        writer.upsert(random_delta(["next"], seed=2))
        assert writer.documents().keys() == {"old-1", "old-2", "new", "next"}


class _Shared(np.ndarray):
    """An array that another thread revives after the first comparison with it."""

    def __eq__(self, other):
        return self._compared(super().__eq__(other))

    def __gt__(self, other):
        return self._compared(super().__gt__(other))

    def _compared(self, result):
        if self.base is not None:
            self[:] = 0
        return np.asarray(result)


def test_a_reader_that_meets_a_revival_takes_nobody_for_dead():
    deaths = Deaths(np.array([9, 9, 9], np.int64).view(_Shared))
    assert deaths.alive(5).tolist() == [0, 1, 2]
    deaths = Deaths(np.array([9, 9, 9], np.int64).view(_Shared))
    assert deaths.positions(5).tolist() == []


def refuse(*_):
    raise WriteFailed("no room")


def test_flushes_that_fail_do_not_let_memory_grow_without_bound(home, monkeypatch):
    with open_writer(home, tail=TailLimits(rows=4)) as writer:
        with monkeypatch.context() as patched:
            patched.setattr(writer_module, "write_generation", refuse)
            taken = 0
            for number in range(100):
                try:
                    writer.upsert(random_delta([f"new-{number}"], seed=number))
                    taken += 1
                except WriteFailed:
                    continue
            assert taken <= 12
        writer.upsert(random_delta(["after"]))
        assert writer.version().number == 2
        assert writer.count()[0] == 2 + taken + 1


def test_a_log_that_could_not_be_repaired_is_not_written_to_again(home, monkeypatch):
    writer = open_writer(home)
    writer.upsert(random_delta(["new"], seed=1))
    writer.flush()

    def half(file, pieces):
        file.write(b"".join(pieces)[:20])
        raise OSError("no room")

    def uncut(file, size):
        raise OSError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "append", half)
        patched.setattr(disk, "cut", uncut)
        for _ in range(2):
            with pytest.raises((WriteFailed, WriterClosed)):
                writer.upsert(random_delta(["lost"], seed=2))
            writer._logs.rotate()  # as a flush that adopts a merge does
    try:
        writer.upsert(random_delta(["kept"], seed=3))
        expected = {"old-1", "old-2", "new", "kept"}
    except WriterClosed:
        expected = {"old-1", "old-2", "new"}
    writer.close()
    with open_writer(home) as again:
        assert again.documents().keys() == expected


def test_a_change_is_in_a_folder_whose_own_name_is_synced(home, monkeypatch):
    synced = []
    real = disk.sync_folder
    monkeypatch.setattr(disk, "sync_folder", lambda path: (synced.append(path), real(path)))
    with open_writer(home) as writer:
        assert not (home / "wal").exists()
        writer.upsert(random_delta(["new"], seed=1))
        assert home in synced


def test_a_publish_that_fails_leaves_the_readers_generation_as_it_was(home, monkeypatch):
    with open_writer(home) as writer:
        writer.delete(["old-1"])
    index = LocalIndex(home, random_settings())
    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "write_generation", refuse)
        with pytest.raises(WriteFailed):
            index.publish(random_delta(["x"]), source(1))
    (layer,) = index.view().parts
    assert layer.deaths.rows == 0
    assert layer.deaths.positions(1000).tolist() == []


def test_a_log_that_somebody_set_aside_is_left_alone(home):
    with open_writer(home) as writer:
        writer.upsert(random_delta(["new"], seed=1))
        aside = home / "wal" / "set-aside.wal"
        aside.write_text("damaged")
        writer.flush()
    assert aside.exists()
    assert open_writer(home).close() is None


def test_a_change_that_is_logged_and_not_taken_in_is_there_for_the_next_writer(home, monkeypatch):
    def fails(self, delta, need):
        raise MemoryError

    with open_writer(home) as writer:
        with monkeypatch.context() as patched:
            patched.setattr(Tail, "append", fails)
            with pytest.raises(MemoryError):
                writer.upsert(random_delta(["new"], seed=1))
        for change in (lambda: writer.delete(["old-1"]), writer.flush):
            with pytest.raises(WriterClosed, match="half in its memory"):
                change()
        assert writer.documents().keys() == {"old-1", "old-2"}
    with open_writer(home) as again:
        assert again.documents().keys() == {"old-1", "old-2", "new"}


def test_a_flush_is_done_where_only_the_clearing_up_after_it_fails(home, monkeypatch, caplog):
    def fails(*_, **__):
        raise OSError("too many open files")

    monkeypatch.setattr(writer_module, "prune", fails)
    with open_writer(home) as writer:
        writer.upsert(random_delta(["new"], seed=1))
        assert writer.flush().number == 2
    assert "not_cleaned index=docs reason=too many open files" in caplog.text
