"""Processes that die, disks that fill and bits that flip: the old generation or the new, whole."""

import contextlib
import errno
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vector_index.errors import IndexCorrupt
from vector_index.local import LocalIndex

ROOT = Path(__file__).parents[2]
BY_HAND = Path(__file__).parent / "conftest.py"
_spec = importlib.util.spec_from_file_location("by_hand", BY_HAND)
by_hand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(by_hand)
EVERYONE, delta, passage, settings, source, unit = (
    by_hand.EVERYONE, by_hand.delta, by_hand.passage, by_hand.settings, by_hand.source,
    by_hand.unit,
)  # fmt: skip

# What Python itself does to files; FAISS, Arrow and tantivy write theirs between two of these.
OPERATIONS = ("open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


def change():
    return delta([(passage("new"), unit(1, 0)), (passage("b"), unit(0, 1))], removed=["a"])


@pytest.fixture
def published(four, tmp_path):
    """An index with one generation, and what both states must answer."""
    home = tmp_path / "docs"
    LocalIndex(home, settings()).publish(four, source(0))
    return home


def state(home):
    """The table version that is served, after checking that its answers are all of that version."""
    index = LocalIndex(home, settings())
    found = index.search(unit(1, 0), k=10, access=EVERYONE)
    words = index.search(None, k=10, access=EVERYONE, text="text of", mode="full_text")
    expected = {0: {"a", "b", "c"}, 1: {"new", "b", "c"}}[found.version.source.version]
    assert {hit.passage.document_id for hit in found.hits} == expected
    assert {hit.passage.document_id for hit in words.hits} == expected
    return found.version.source.version


class Fault:
    """Does `act` before the n-th file operation below a folder, in this process."""

    def __init__(self):
        self.left, self.home, self.act = -1, "", None
        sys.addaudithook(self._hook)

    def _hook(self, event, arguments):
        if (
            self.left < 0
            or event not in OPERATIONS
            or not any(str(argument).startswith(self.home) for argument in arguments[:2])
        ):
            return
        if event == "open" and not is_writing(*arguments[1:3]):
            return
        self.left -= 1
        if self.left < 0:
            self.act()


def is_writing(mode, flags):
    return any(c in (mode or "") for c in "wax+") or bool(flags & (os.O_WRONLY | os.O_RDWR))


@pytest.fixture(scope="module")
def fault():
    # Audit hooks cannot be taken back: one for all tests, idle unless armed.
    return Fault()


def test_a_disk_that_fills_at_any_operation_leaves_the_old_generation_or_the_new(
    published, tmp_path, fault
):
    def fill():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    seen = set()
    for number in range(1000):
        home = tmp_path / f"copy{number}"
        shutil.copytree(published, home)
        index = LocalIndex(home, settings())
        fault.home, fault.act, fault.left = str(home), fill, number
        with contextlib.suppress(OSError):
            index.publish(change(), source(1))
        was_reached, fault.left = fault.left < 0, -1
        seen.add(state(home))
        # And the writer can go on where it was.
        LocalIndex(home, settings()).publish(change(), source(1))
        assert state(home) == 1
        shutil.rmtree(home)
        if not was_reached:
            break
    assert number > 20
    assert seen == {0, 1}


CHILD = f"""
import importlib.util, os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
spec = importlib.util.spec_from_file_location("faults", {__file__!r})
faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faults)
from pathlib import Path
for home in sys.argv[2:]:
    index = faults.LocalIndex(Path(home), faults.settings())
    fault = faults.Fault()
    fault.home, fault.left = home, int(sys.argv[1])
    fault.act = lambda: os.kill(os.getpid(), signal.SIGKILL)
    index.publish(faults.change(), faults.source(1))
"""


def test_kill_9_at_any_operation_leaves_the_old_generation_or_the_new(published, tmp_path):
    seen = set()
    # Every third operation keeps this within a minute; the full disk above stops at each.
    for number in range(0, 1000, 3):
        home = tmp_path / f"copy{number}"
        shutil.copytree(published, home)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(number), str(home)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        seen.add(state(home))
        LocalIndex(home, settings()).publish(change(), source(1))
        assert state(home) == 1
        if done.returncode == 0:
            break
    assert number > 20
    assert seen == {0, 1}


def test_a_thousand_flipped_bits_and_cut_files_are_all_found_before_anything_is_served(published):
    index = LocalIndex(published, settings())
    index.publish(change(), source(1))
    (folder,) = (published / "generations").glob("2-*")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    draw = random.Random(20261124)
    for number in range(1000):
        path = draw.choice(files)
        content = path.read_bytes()
        damaged = bytearray(content)
        if number % 10:
            damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del damaged[draw.randrange(len(content)) :]
        # A new file: the old one's bytes may be mapped, and are shared with the other generation.
        path.unlink()
        path.write_bytes(damaged)
        with pytest.raises(IndexCorrupt, match=folder.name):
            LocalIndex(published, settings())
        path.unlink()
        path.write_bytes(content)
    assert state(published) == 1


def test_a_file_of_another_generation_is_found_and_the_old_generation_goes_on_serving(published):
    reader = LocalIndex(published, settings())
    LocalIndex(published, settings()).publish(change(), source(1))
    old, new = sorted((published / "generations").glob("*-*"))
    name = "fulltext/meta.json"
    (new / name).unlink()
    shutil.copy(old / name, new / name)
    with pytest.raises(IndexCorrupt, match=r"fulltext/meta\.json"):
        reader.refresh()
    assert reader.version().source.version == 0
    assert len(reader.search(unit(1, 0), k=10, access=EVERYONE).hits) == 3


def test_two_readers_through_many_publishes_see_exactly_one_generation_each_time(published):
    writer = LocalIndex(published, settings())
    wrong, searches, stop = [], [0, 0], threading.Event()

    def read(number):
        try:
            read_on(number)
        except Exception as exc:  # noqa: BLE001 - a thread's error must fail the test by name
            wrong.append(repr(exc))

    def read_on(number):
        reader = LocalIndex(published, settings())
        while not stop.is_set():
            reader.refresh()
            found = reader.search(unit(1, 0), k=10, access=EVERYONE)
            versions = {
                hit.passage.metadata["views"]
                for hit in found.hits
                if hit.passage.document_id.startswith("v")
            }
            searches[number] += 1
            if found.version.source.version and versions != {found.version.source.version}:
                wrong.append((found.version.generation, versions))

    readers = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
    for thread in readers:
        thread.start()
    try:
        for version in range(1, 101):
            rows = [(passage(f"v{n}", views=version), unit(1, n)) for n in range(3)]
            writer.publish(delta(rows), source(version))
    finally:
        stop.set()
        for thread in readers:
            thread.join()
    assert wrong == []
    assert min(searches) > 10
