"""Real Delta tables; a real process is killed while it writes one."""

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.errors import QuarantineFailed
from pipelines.quarantine import Quarantine, Rejection
from pipelines.reasons import Reason
from pipelines.retry import Retried, retry
from pipelines.shown import ROW_BYTES, shown_row

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine(tmp_path / "quarantine" / "docs")


def bad(key, reason=Reason.EMBEDDER_FAILED, version=1, **more):
    return Rejection(key, reason, "it failed", "table", version, **more)


def test_an_index_without_bad_rows_has_an_empty_quarantine(quarantine):
    assert (quarantine.open(), quarantine.held(), quarantine.due()) == ([], {}, [])
    quarantine.resolve(["never seen"])
    quarantine.clean()


def test_a_row_is_kept_with_its_reason_and_where_it_came_from(quarantine):
    before = datetime.now(UTC)
    quarantine.add([bad("b"), bad("a", Reason.TOO_LONG, 7, row_hash="h", row={"body": "text"})])
    first, second = quarantine.open()
    assert (first.key, second.key) == ("a", "b")
    assert (first.reason, first.detail) == ("too_long", "it failed")
    assert (first.table_id, first.table_version, first.row_hash) == ("table", 7, "h")
    assert json.loads(first.row) == {"body": "text"}
    assert before <= first.quarantined_at <= datetime.now(UTC)
    assert (first.attempts, first.resolved_at, second.row) == (1, None, None)
    assert quarantine.open(limit=1) == [first]
    assert quarantine.held() == {"a": "h", "b": None}


def test_a_row_that_fails_again_has_one_more_attempt_and_its_newest_reason(quarantine):
    for version, reason in [(1, Reason.EMBEDDER_FAILED), (2, Reason.TOO_LONG)]:
        quarantine.add([bad("a", reason, version)])
    (found,) = quarantine.open()
    assert (found.attempts, found.reason, found.table_version) == (2, "too_long", 2)


def test_a_resolved_row_is_closed_until_it_fails_again(quarantine):
    quarantine.add([bad("a"), bad("b")])
    quarantine.resolve(["a", "unknown"])
    assert quarantine.held().keys() == {"b"}
    quarantine.add([bad("a")])
    assert [(row.key, row.attempts) for row in quarantine.open()] == [("a", 2), ("b", 1)]


def test_of_two_rows_of_one_key_in_one_commit_the_later_counts(quarantine):
    quarantine.add([bad("a", version=1), bad("a", version=2)])
    assert [row.table_version for row in quarantine.open()] == [2]


def test_what_is_due_may_pass_with_nothing_changed_and_has_not_failed_too_often(quarantine):
    quarantine.add([bad("long", Reason.TOO_LONG), bad("new"), bad("old")])
    quarantine.add([bad("old")])
    assert quarantine.due() == ["new", "old"]
    assert quarantine.due(max_attempts=2) == ["new"]
    assert quarantine.due(reasons=list(Reason)) == ["long", "new", "old"]


def test_resolved_text_is_off_the_disk_after_a_clean_up(quarantine, tmp_path):
    secret = "a sentence that must go"
    quarantine.add([bad("a", row=secret), bad("b", row="stays")])
    quarantine.resolve(["a"])
    quarantine.clean()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert json.loads(quarantine.open()[0].row) == "stays"


class Unspeakable:
    def __repr__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("lone \udcff surrogate", "lone \udcff surrogate"),
        ({"at": datetime(2026, 1, 2, tzinfo=UTC)},
         {"at": "datetime.datetime(2026, 1, 2, 0, 0, tzinfo=datetime.timezone.utc)"}),
        ({"raw": b"\x00\xff"}, {"raw": "b'\\x00\\xff'"}),
        ({"thing": Unspeakable()}, {"thing": "a Unspeakable without a text (ValueError)"}),
        ({"vector": [0.5] * 33}, {"vector": [0.5] * 32 + ["… 33 in all"]}),
        ({1: {2: (True, None)}}, {"1": {"2": [True, None]}}),
    ],
)  # fmt: skip
def test_a_row_of_any_types_is_kept_as_json(row, expected, quarantine):
    quarantine.add([bad("a", row=row)])
    assert json.loads(quarantine.open()[0].row) == expected


def test_a_huge_row_is_cut_to_the_bound_and_its_small_columns_are_still_there():
    text = shown_row({"body": "é" * 10_000_000, "id": "small"})
    assert json.loads(text)["id"] == "small"
    wide = shown_row({f"column {n}": "é" * 100 for n in range(1000)})
    assert len(wide.encode()) <= ROW_BYTES
    assert wide.endswith("…")


def test_rows_added_from_several_threads_at_once_are_all_kept_and_readable_meanwhile(quarantine):
    quarantine.add([bad("first")])
    errors, seen, done = [], [], threading.Event()

    def add(name):
        try:
            for number in range(3):
                quarantine.add([bad(f"{name}{number}")])
        except QuarantineFailed as exc:
            errors.append(exc)

    def read():
        while not done.is_set():
            seen.append(len(quarantine.held()))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=add, args=(name,)) for name in "xyz"]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert errors == []
    assert len(quarantine.held()) == 10
    assert seen == sorted(seen)


ADDING = """
import itertools, sys
from pathlib import Path
from pipelines.quarantine import Rejection, Quarantine
from pipelines.reasons import Reason
quarantine = Quarantine(Path(sys.argv[1]))
for number in itertools.count():
    quarantine.add([Rejection(f"{number:04}", Reason.QUALITY, "d", "t", 1, row="x" * 100)])
    print(f"{number:04}", flush=True)
"""


def test_what_was_added_before_a_kill_is_there_and_more_can_be_added(quarantine, tmp_path):
    folder = tmp_path / "quarantine" / "docs"
    for wait_s in (0.0, 0.03):
        before = quarantine.held().keys()
        command = [sys.executable, "-c", ADDING, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            told = [child.stdout.readline().strip() for _ in range(3)]
            time.sleep(wait_s)  # so that the kill meets different steps of a commit
            child.kill()
            told += child.stdout.read().split()
        held = quarantine.held().keys()
        assert held >= set(told) | before
        # At most the one that was under way was not told of.
        assert len(held - before - set(told)) <= 1
    quarantine.add([bad("after")])
    assert "after" in quarantine.held()


def test_a_quarantine_that_cannot_be_read_says_which_folder_to_mend(quarantine, tmp_path):
    quarantine.add([bad("a")])
    for file in (tmp_path / "quarantine" / "docs").glob("*.parquet"):
        file.unlink()
    with pytest.raises(QuarantineFailed, match=r"quarantine/docs cannot be read: .*free the disk"):
        quarantine.held()


def test_a_retry_closes_what_the_index_then_holds_and_what_the_table_has_no_more(quarantine):
    quarantine.add([bad("heals"), bad("fails"), bad("gone"), bad("long", Reason.TOO_LONG)])
    rows, indexed, asked = {"heals": "h1", "fails": "h2", "long": "h3"}, {}, []

    def apply(write, remove):
        asked.append((write, remove))
        indexed["heals"] = "h1"
        quarantine.add([bad("fails")])

    found = retry(quarantine, rows, lambda: indexed, apply)
    assert found == Retried(indexed=("heals",), gone=("gone",), failed=("fails",))
    assert asked == [({"heals", "fails"}, set())]
    assert [(row.key, row.attempts) for row in quarantine.open()] == [("fails", 2), ("long", 1)]
    assert retry(quarantine, rows, lambda: indexed, apply, max_attempts=2) == Retried((), (), ())
