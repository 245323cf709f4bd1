"""A watched table that cannot be read for a while: said while it lasts, got over alone."""

import os
import re
from contextlib import contextmanager

import pytest
from test_watch import Watched
from worlds import World, rows

NOBODY = 65534


@contextmanager
def missing(world):
    """As while a job drops and writes it anew, or a volume is not mounted."""
    elsewhere = world.folder / "elsewhere"
    world.table.rename(elsewhere)
    yield
    elsewhere.rename(world.table)


@contextmanager
def denied(world):
    """Nobody may read it; the administrator, whom no mode stops, is somebody else meanwhile."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    world.table.chmod(0)
    try:
        yield
    finally:
        world.table.chmod(0o700)


@contextmanager
def torn_commit(world):
    file = world.commit_file(world.delta.version() + 1)
    file.write_text('{"commitInfo":{"operation":"WRITE"}}\n{"add":{"pa')
    yield
    file.unlink()


@contextmanager
def empty_commit(world):
    file = world.commit_file(world.delta.version() + 1)
    file.touch()
    yield
    file.unlink()


@contextmanager
def log_is_a_file(world):
    log, elsewhere = world.table / "_delta_log", world.folder / "log"
    log.rename(elsewhere)
    log.write_text("no folder")
    yield
    log.unlink()
    elsewhere.rename(log)


@contextmanager
def data_file_gone(world):
    world.append(rows(["gone"]))
    (file,) = [path for path in world.table.glob("*.parquet") if not world.was_there(path)]
    elsewhere = world.folder / file.name
    file.rename(elsewhere)
    yield
    elsewhere.rename(file)


FAULTS = {
    missing: "no Delta table at",
    denied: "ermission denied",
    torn_commit: "cannot be read",
    empty_commit: "is an empty file, so what it did is unknown",
    log_is_a_file: "Not a directory",
    data_file_gone: "parquet not found: No such file or directory",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_source_that_cannot_be_read_is_said_and_followed_again_once_it_can(
    fault, tmp_path, request
):
    world = World(tmp_path)
    known = set(world.table.glob("*.parquet"))
    world.was_there = known.__contains__
    watched = Watched(world)
    request.addfinalizer(watched.watcher.stop)
    watched.watcher.start()
    watched.wait_indexed(0)
    served = world.indexed()
    with fault(world):
        watched.wait_for(lambda state: state.failures >= 3)
        state = watched.watcher.state()
        assert state.phase == "failing"
        assert re.search(FAULTS[fault], state.last_error)
        # Where the log can still be read it says how far behind the index is.
        assert (state.lag and state.lag.versions) == (1 if fault is data_file_gone else None)
        assert world.indexed() == served
    world.upsert(rows(["3", "new"], body="after it"))
    watched.wait_indexed(world.delta.version())
    state = watched.watcher.state()
    assert (state.phase, state.failures, state.lag.versions) == ("idle", 0, 0)
    assert state.last_error_at is not None
    world.check()
