"""The log: what it keeps, and what a crash or the disk may do to it."""

import errno
import logging

import pytest
from by_hand import COLUMNS, delta, passage, source, unit

from vector_index import disk
from vector_index.errors import IndexCorrupt, WriteFailed, WriterClosed
from vector_index.wal import MAGIC, Change, Log, read_log

FULL = OSError(errno.ENOSPC, "No space left on device")


def change(sequence, *removed):
    rows = [] if removed else [(passage(f"d{sequence}", tags=["ä", "b"], views=3), unit(4, 3))]
    return Change(sequence, delta(rows, removed), source(sequence) if sequence % 2 else None)


@pytest.fixture
def path(tmp_path):
    log = Log(tmp_path / "1.wal", is_synced=True)
    for number in (1, 2, 3):
        log.append(change(number))
    log.append(change(4, "gone", "d1"))
    log.close()
    return tmp_path / "1.wal"


def sequences(path):
    return [entry.sequence for entry in read_log(path, COLUMNS)]


def frames(path):
    """The byte at which each record begins, and the end."""
    content, at = path.read_bytes(), len(MAGIC)
    starts = [at]
    while at < len(content):
        at += 8 + int.from_bytes(content[at : at + 4], "little")
        starts.append(at)
    return starts


def test_what_was_logged_is_read_back_whole(path):
    first, _, third, fourth = read_log(path, COLUMNS)
    wanted = change(1)
    assert first.delta.passages.equals(wanted.delta.passages)
    assert first.delta.documents.equals(wanted.delta.documents)
    assert first.delta.vectors.tolist() == wanted.delta.vectors.tolist()
    assert (first.source, third.source) == (source(1), source(3))
    assert (fourth.delta.removed, fourth.source) == (frozenset({"gone", "d1"}), None)
    assert fourth.delta.passages.num_rows == 0


def test_wherever_the_end_is_cut_off_the_whole_records_before_it_stay(path, caplog):
    content, starts = path.read_bytes(), frames(path)
    edges = {start + by for start in starts for by in (-1, 0, 1, 7, 8, 9, 13)}
    for size in sorted(edges | {*range(len(MAGIC) + 2)} | {*range(0, len(content), 41)}):
        if not 0 <= size < len(content):
            continue
        path.write_bytes(content[:size])
        whole = sum(end <= size for end in starts[1:])
        with caplog.at_level(logging.WARNING):
            assert sequences(path) == [1, 2, 3, 4][:whole], size
        is_torn = size not in (*starts, 0)
        assert ("torn_record_dropped" in caplog.text) == is_torn, size
        caplog.clear()
        assert sequences(path) == [1, 2, 3, 4][:whole]
        assert not caplog.text


def test_a_damaged_last_record_is_dropped_and_the_next_takes_its_place(path, caplog):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert sequences(path) == [1, 2, 3]
    assert "torn_record_dropped file=1.wal" in caplog.text
    log = Log(path, is_synced=False)
    log.append(change(5))
    log.close()
    assert sequences(path) == [1, 2, 3, 5]


def test_zeros_after_the_last_record_are_what_a_crash_leaves(path):
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert sequences(path) == [1, 2, 3, 4]


def test_damage_in_the_middle_is_an_error_that_says_where(path):
    content, starts = bytearray(path.read_bytes()), frames(path)
    content[starts[1] + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(IndexCorrupt, match=f"byte {starts[1]}"):
        sequences(path)


def test_a_damaged_length_does_not_take_the_records_after_it_along(path):
    content, starts = bytearray(path.read_bytes()), frames(path)
    content[starts[1] + 3] ^= 64
    path.write_bytes(content)
    with pytest.raises(IndexCorrupt, match=f"byte {starts[1]}"):
        sequences(path)


def test_a_file_that_is_no_log_is_refused(path):
    path.write_bytes(b"something else entirely")
    with pytest.raises(IndexCorrupt, match="not a log"):
        sequences(path)


def test_a_full_disk_refuses_the_change_and_leaves_no_trace_of_it(path, monkeypatch):
    log = Log(path, is_synced=True)
    before = path.read_bytes()
    whole = disk.append

    def half(file, pieces):
        joined = b"".join(pieces)
        whole(file, [joined[: len(joined) // 2]])
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(disk, "append", half)
        with pytest.raises(WriteFailed, match="No space left"):
            log.append(change(5))
    assert path.read_bytes() == before
    log.append(change(6))
    log.close()
    assert sequences(path) == [1, 2, 3, 4, 6]


def test_a_log_that_cannot_be_repaired_takes_nothing_more(path, monkeypatch):
    log = Log(path, is_synced=True)

    def refuse(*_):
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_data", refuse)
        patched.setattr(disk, "cut", refuse)
        with pytest.raises(WriteFailed):
            log.append(change(5))
    with pytest.raises(WriterClosed, match="reopen"):
        log.append(change(6))
    log.close()
