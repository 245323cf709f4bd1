"""A watcher follows a real table; what it waits for is waited for here, never timed."""

import threading
from dataclasses import replace

import pytest
from worlds import CountingEmbedder, World, rows

from pipelines.sync import sync
from pipelines.watch import Watcher, WatchOptions
from vector_index.errors import IndexBusy

QUICK = WatchOptions(poll_s=0.01, first_pause_s=0.01, last_pause_s=0.02)
PATIENCE_S = 60


class Watched:
    """A watcher over a world, and a way to wait for what its state says."""

    def __init__(self, world, run=None, options=QUICK):
        self.states, self.reports = [], []
        self.changed = threading.Condition()
        self.watcher = Watcher(
            world.source,
            run or (lambda progress: sync(world.source, world.index, world.embedder, world.chunk,
                                          on_progress=progress)),
            options=options, on_sync=self.reports.append, on_change=self._note,
        )  # fmt: skip

    def _note(self, state):
        with self.changed:
            self.states.append(state)
            self.changed.notify_all()

    def wait_for(self, holds):
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(holds, self.states)), PATIENCE_S)

    def wait_indexed(self, version):
        self.wait_for(lambda s: s.indexed and s.indexed.version >= version and s.phase == "idle")


@pytest.fixture
def watch(request):
    def begin(*arguments, **options):
        watched = Watched(*arguments, **options)
        request.addfinalizer(watched.watcher.stop)
        watched.watcher.start()
        return watched

    return begin


def test_every_commit_becomes_searchable_and_the_state_says_so(tmp_path, watch):
    world = World(tmp_path)
    watched = watch(world)
    watched.wait_indexed(0)
    world.upsert(rows(["3", "x"], body="changed"))
    watched.wait_indexed(1)
    world.delta.delete("id = '4'")
    watched.wait_indexed(2)
    world.check()
    state = watched.watcher.state()
    assert (state.phase, state.lag.versions, state.lag.seconds) == ("idle", 0, 0.0)
    assert (state.syncs, state.failures, state.last_error, state.pending_rows) == (3, 0, None, 0)
    assert state.rows_per_s > 0
    assert [report.mode for report in watched.reports] == ["diff", "incremental", "incremental"]


def test_commits_during_a_sync_become_one_more_sync(tmp_path, watch):
    go_on = threading.Event()

    class Slow(CountingEmbedder):
        def embed_passages(self, texts, *, on_progress=None):
            assert go_on.wait(PATIENCE_S)
            return super().embed_passages(texts, on_progress=on_progress)

    world = World(tmp_path, embedder=Slow())
    watched = watch(world)
    watched.wait_for(lambda state: state.phase == "syncing")
    for number in range(4):
        world.upsert(rows([str(number)], body=f"change {number}"))
    go_on.set()
    watched.wait_indexed(4)
    # Whether the first sync pinned version 0 or a later one is up to the threads.
    assert len(watched.reports) <= 2
    world.check()


def test_a_failure_is_told_and_retried_until_it_is_over(tmp_path, watch):
    world = World(tmp_path)
    world.append(rows(["3"], body="a second one"))
    watched = watch(world)
    watched.wait_for(lambda state: state.failures >= 3)
    assert "key '3' stands more than once" in watched.watcher.state().last_error
    world.delta.delete("body like 'a second one%'")
    watched.wait_indexed(2)
    state = watched.watcher.state()
    assert (state.failures, state.phase) == (0, "idle")
    assert state.last_error_at is not None
    world.check()


def test_an_error_that_nobody_named_does_not_end_the_watch(tmp_path, watch):
    world = World(tmp_path)
    errors = [IndexBusy("another process is syncing"), ZeroDivisionError()]

    def run(progress):
        if errors:
            raise errors.pop(0)
        return sync(world.source, world.index, world.embedder, world.chunk)

    watched = watch(world, run)
    watched.wait_indexed(0)
    told = [state.last_error for state in watched.states if state.phase == "failing"]
    assert told == ["another process is syncing", "ZeroDivisionError"]


class Panic(BaseException):
    """As Rust extensions raise it: no Exception."""


def test_a_panic_of_native_code_does_not_end_the_watch(tmp_path, watch):
    world = World(tmp_path)
    panics = [Panic("called `Option::unwrap()` on a `None` value")]
    real = world.source.version

    def version():
        if panics:
            raise panics.pop()
        return real()

    world.source.version = version
    watched = watch(world)
    watched.wait_indexed(0)
    assert "unwrap" in watched.watcher.state().last_error
    world.check()


def test_pauses_grow_to_a_bound_and_differ(tmp_path):
    world = World(tmp_path)
    watched = Watched(world, options=replace(QUICK, first_pause_s=1.0, last_pause_s=8.0))
    pauses = [watched.watcher._failed(IndexBusy("busy")) for _ in range(2000)]
    for number, longest in enumerate((1, 2, 4, 8, 8)):
        assert longest / 2 <= pauses[number] <= longest
    assert 4 <= min(pauses[3:]) < max(pauses[3:]) <= 8
    assert len(set(pauses)) > 1000


def test_stopping_in_the_middle_of_a_sync_publishes_nothing(tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    class Slow(CountingEmbedder):
        def embed_passages(self, texts, *, on_progress=None):
            inside.set()
            assert go_on.wait(PATIENCE_S)
            return super().embed_passages(texts, on_progress=on_progress)

    world = World(tmp_path)
    world.sync()
    world.upsert(rows(["1"], body="changed"))
    world.embedder = Slow()
    watched = Watched(world)
    watched.watcher.start()
    assert inside.wait(PATIENCE_S)
    watched.watcher.tell_to_stop()
    go_on.set()
    watched.watcher.stop()
    assert watched.watcher.state().phase == "stopped"
    assert (watched.reports, world.index.version().source.version) == ([], 0)
    world.sync()
    world.check()


def test_a_rollback_by_hand_stays_until_the_next_commit(tmp_path, watch):
    from vector_index.history import rollback

    world = World(tmp_path)
    watched = watch(world)
    watched.wait_indexed(0)
    world.upsert(rows(["1"], body="changed"))
    watched.wait_indexed(1)
    rollback(world.folder / "index", 1)
    looks = threading.Semaphore(0)
    real = world.source.version
    world.source.version = lambda: looks.release() or real()
    for _ in range(3):
        assert looks.acquire(timeout=PATIENCE_S)
    world.index.refresh()
    assert world.index.version().number == 1
    world.upsert(rows(["2"], body="changed"))
    watched.wait_indexed(2)
    world.check()
