"""Two processes that sync one index, the first of which sleeps through its turn."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from worlds import World, rows

from vector_index.errors import IndexBusy
from vector_index.history import history

HERE = Path(__file__).parent


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.sync()
    world.upsert(rows(["1"], body="changed"))
    return world


@contextmanager
def paused(world):
    """A process that has begun to sync, and is stopped."""
    child = subprocess.Popen(
        [sys.executable, HERE / "paused_child.py", world.folder], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"},
    )  # fmt: skip
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it ended instead of stopping"
        assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
        yield child
    finally:
        child.kill()
        child.stdout.close()
        child.wait(60)


def woken(child):
    """What it says once it goes on."""
    child.send_signal(signal.SIGCONT)
    return child.stdout.readline()


def numbers(world):
    return [one.manifest.number for one in history(world.folder / "index")]


def test_a_stopped_process_keeps_its_lease_and_publishes_when_it_goes_on(world):
    with paused(world) as child:
        with pytest.raises(IndexBusy, match="someone else is syncing"):
            world.sync()
        assert woken(child).startswith("2-")
    assert world.sync().is_noop
    assert numbers(world) == [2, 1]
    world.check()


def test_the_lease_of_a_stopped_process_that_is_killed_is_free_at_once(world):
    with paused(world) as child:
        child.kill()
        child.wait(60)
        assert world.sync().changed == 1
    assert numbers(world) == [2, 1]
    world.check()


def test_a_process_that_lost_its_lease_while_it_slept_publishes_nothing(world):
    """As on a file system that forgets locks: the second one gets the lease too."""
    with paused(world) as child:
        (world.folder / "index" / "SYNC").unlink()
        world.upsert(rows(["2"], body="newer"))
        assert world.sync().version.source.version == 2
        assert woken(child).startswith("IndexMoved the change was made for generation 1-")
    assert numbers(world) == [2, 1]
    world.index.refresh()
    world.check()
    assert world.sync().is_noop


def test_of_two_such_processes_exactly_one_publishes(world):
    with paused(world) as first:
        (world.folder / "index" / "SYNC").unlink()
        with paused(world) as second:
            said = sorted([woken(first), woken(second)])
    assert said[0].startswith("2-")
    assert said[1].startswith("IndexMoved ")
    world.index.refresh()
    assert numbers(world) == [2, 1]
    world.check()
