"""The thread of a card: batches, failures, giving up, loading, freeing and closing."""

import threading
import weakref

import faiss
import numpy as np
import pytest

from vector_index.errors import DeviceFailed, DeviceFull
from vector_index.gpu import Batching
from vector_index.gpu.protocol import Copy
from vector_index.gpu.worker import Worker

VECTORS = np.eye(8, dtype=np.float32)
NEVER_S = 3600.0  # a test that waits for it hangs
SOON_S = 60.0
MB = 10**6


class Watched:
    """A real FAISS index that waits for `gate` and remembers how it was asked; refuses NaN."""

    def __init__(self):
        self.index = faiss.IndexFlatIP(8)
        self.index.add(VECTORS)
        self.gate, self.asked, self.started = threading.Event(), [], threading.Semaphore(0)

    def search(self, queries, k, params=None):
        self.started.release()
        assert self.gate.wait(SOON_S)
        self.asked.append((len(queries), k))
        if np.isnan(queries).any():
            raise RuntimeError("CUDA error 700")
        return self.index.search(queries, k)


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def make_worker():
    made = []

    def make(**batching):
        made.append(Worker("card", memory_bytes=10**9, batching=Batching(**batching)))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


@pytest.fixture
def worker(make_worker):
    return make_worker(wait_s=0)


@pytest.fixture
def busy(worker, watched):
    """A card that is held up by a first search, so that what comes next has to stand in line."""
    handle = worker.load(lambda: Copy(watched), 0)
    first = worker.submit(handle, VECTORS[:1], 1, 0)
    assert watched.started.acquire(timeout=SOON_S)
    yield handle
    watched.gate.set()
    assert first.result(SOON_S)[1].tolist() == [[0]]


def rows_of(future):
    return future.result(SOON_S)[1].tolist()


def test_searches_in_line_are_one_call_and_everyone_gets_their_own_rows(worker, watched, busy):
    waiting = [worker.submit(busy, VECTORS[i : i + 1 + i % 2], 1, 0) for i in range(6)]
    watched.gate.set()
    expected = [[[0]], [[1], [2]], [[2]], [[3], [4]], [[4]], [[5], [6]]]
    assert [rows_of(found) for found in waiting] == expected
    assert watched.asked == [(1, 1), (9, 1)]


def test_another_k_or_breadth_or_copy_is_another_call(worker, watched, busy):
    calls = [(busy, 1, 0), (busy, 2, 0), (busy, 1, 5), (busy, 1, 0)]
    waiting = [worker.submit(handle, VECTORS[:1], k, b) for handle, k, b in calls]
    watched.gate.set()
    assert [len(rows_of(found)[0]) for found in waiting] == [1, 2, 1, 1]
    assert watched.asked == [(1, 1), (2, 1), (1, 2), (1, 1)]


def test_a_call_is_no_larger_than_the_limit_unless_one_search_is(make_worker, watched):
    worker = make_worker(max_queries=3, wait_s=0)
    handle = worker.load(lambda: Copy(watched), 0)
    first = worker.submit(handle, VECTORS[:1], 1, 0)
    assert watched.started.acquire(timeout=SOON_S)
    waiting = [worker.submit(handle, VECTORS[:n], 1, 0) for n in (2, 2, 1, 5)]
    watched.gate.set()
    assert [len(rows_of(found)) for found in [first, *waiting]] == [1, 2, 2, 1, 5]
    assert watched.asked == [(1, 1), (3, 1), (2, 1), (5, 1)]


def test_a_failure_reaches_the_callers_of_that_batch_and_no_other(worker, watched, busy):
    bad = worker.submit(busy, np.full((1, 8), np.nan, np.float32), 1, 0)
    same, other = worker.submit(busy, VECTORS[:1], 1, 0), worker.submit(busy, VECTORS[:1], 2, 0)
    watched.gate.set()
    for found in (bad, same):
        with pytest.raises(DeviceFailed, match="1 rows of 2 queries failed: CUDA error 700"):
            found.result(SOON_S)
    assert rows_of(other) == [[0, 1]]
    assert rows_of(worker.submit(busy, VECTORS[3:4], 1, 0)) == [[3]]


def test_queries_of_another_dimension_fail_their_batch_and_the_thread_lives(worker, watched, busy):
    odd = worker.submit(busy, np.zeros((1, 3), np.float32), 1, 0)
    even = worker.submit(busy, VECTORS[:1], 1, 0)
    watched.gate.set()
    for found in (odd, even):
        with pytest.raises(ValueError, match="concatenation"):
            found.result(SOON_S)
    assert rows_of(worker.submit(busy, VECTORS[3:4], 1, 0)) == [[3]]


def test_who_gives_up_costs_the_others_nothing(worker, watched, busy):
    before, gone, after = (worker.submit(busy, VECTORS[i : i + 1], 1, 0) for i in (1, 2, 3))
    alone = worker.submit(busy, VECTORS[:1], 2, 0)
    assert gone.cancel()
    assert alone.cancel()
    watched.gate.set()
    assert (rows_of(before), rows_of(after)) == ([[1]], [[3]])
    assert watched.asked == [(1, 1), (2, 1)]


def test_a_full_line_takes_no_more_until_it_is_answered(make_worker, watched):
    worker = make_worker(max_waiting=2, wait_s=0)
    handle = worker.load(lambda: Copy(watched), 0)
    first = worker.submit(handle, VECTORS[:1], 1, 0)
    assert watched.started.acquire(timeout=SOON_S)
    waiting = [worker.submit(handle, VECTORS[:1], 1, 0) for _ in range(2)]
    assert worker.submit(handle, VECTORS[:1], 1, 0) is None
    watched.gate.set()
    assert [rows_of(found) for found in (first, *waiting)] == [[[0]]] * 3
    assert rows_of(worker.submit(handle, VECTORS[:1], 1, 0)) == [[0]]


def test_a_lone_caller_never_waits(make_worker, watched):
    worker = make_worker(wait_s=NEVER_S)
    watched.gate.set()
    handle = worker.load(lambda: Copy(watched), 0)
    for i in range(5):
        assert rows_of(worker.submit(handle, VECTORS[i : i + 1], 1, 0)) == [[i]]


def test_callers_who_were_served_together_are_waited_for(make_worker, watched):
    worker = make_worker(wait_s=NEVER_S)
    handle = worker.load(lambda: Copy(watched), 0)
    first = worker.submit(handle, VECTORS[:1], 1, 0)
    assert watched.started.acquire(timeout=SOON_S)
    pair = [worker.submit(handle, VECTORS[i : i + 1], 1, 0) for i in (1, 2)]
    watched.gate.set()
    assert [rows_of(found) for found in (first, *pair)] == [[[0]], [[1]], [[2]]]
    assert watched.started.acquire(timeout=SOON_S)  # the pair's own call
    third = worker.submit(handle, VECTORS[3:4], 1, 0)
    assert not watched.started.acquire(timeout=0.1)
    fourth = worker.submit(handle, VECTORS[4:5], 1, 0)
    assert (rows_of(third), rows_of(fourth)) == ([[3]], [[4]])
    assert watched.asked == [(1, 1), (2, 1), (2, 1)]


def test_who_was_waited_for_in_vain_holds_up_no_other_work(make_worker, watched):
    worker = make_worker(wait_s=NEVER_S)
    handle = worker.load(lambda: Copy(watched), 0)
    first = worker.submit(handle, VECTORS[:1], 1, 0)
    assert watched.started.acquire(timeout=SOON_S)
    pair = [worker.submit(handle, VECTORS[i : i + 1], 1, 0) for i in (1, 2)]
    watched.gate.set()
    assert [rows_of(found) for found in (first, *pair)] == [[[0]], [[1]], [[2]]]
    lone, other = (worker.submit(handle, VECTORS[:1], k, 0) for k in (1, 2))
    assert (rows_of(lone), rows_of(other)) == ([[0]], [[0, 1]])


def test_while_a_copy_is_loaded_no_search_is_taken_and_those_in_line_come_first(
    worker, watched, busy
):
    waiting, seen = worker.submit(busy, VECTORS[1:2], 1, 0), []
    is_loading, go_on = threading.Event(), threading.Event()

    def make():
        seen.append(waiting.done())
        is_loading.set()
        assert go_on.wait(SOON_S)
        return Copy(watched.index)

    handles = []
    loader = threading.Thread(target=lambda: handles.append(worker.load(make, 0)))
    loader.start()
    watched.gate.set()
    assert is_loading.wait(SOON_S)
    assert worker.submit(busy, VECTORS[:1], 1, 0) is None
    go_on.set()
    loader.join(SOON_S)
    assert seen == [True]
    assert rows_of(worker.submit(handles[0], VECTORS[4:5], 1, 0)) == [[4]]


def test_a_load_that_fails_tells_its_caller_and_leaves_the_card_usable(worker, watched):
    watched.gate.set()

    def fail():
        raise DeviceFailed("out of memory")

    with pytest.raises(DeviceFailed, match="out of memory"):
        worker.load(fail, 10)
    handle = worker.load(lambda: Copy(watched), 10**9)
    assert rows_of(worker.submit(handle, VECTORS[4:5], 1, 0)) == [[4]]


def test_copies_beyond_the_budget_are_refused_with_the_numbers_until_one_is_freed(worker, watched):
    handle = worker.load(lambda: Copy(watched), 700 * MB)
    with pytest.raises(
        DeviceFull, match=r"^301\.0 MB do not fit: 700\.0 of 1,000\.0 MB are taken$"
    ):
        worker.load(lambda: Copy(watched), 301 * MB)
    worker.load(lambda: Copy(watched), 300 * MB)
    worker.free(handle)
    worker.load(lambda: Copy(watched), 700 * MB)


def test_a_copy_is_freed_by_the_thread_of_the_card_after_the_searches_in_line(
    worker, watched, busy
):
    threads, seen = [], []
    other = Watched()
    other.gate.set()
    dying = weakref.finalize(other, lambda: threads.append(threading.current_thread().name))
    watched.gate.set()
    handle = worker.load(lambda held=[other]: Copy(held.pop()), 0)
    del other
    found = worker.submit(handle, VECTORS[6:7], 1, 0)
    found.add_done_callback(lambda _: seen.append(dying.alive))
    worker.free(handle)
    assert rows_of(found) == [[6]]
    worker.load(lambda: Copy(watched), 0)  # comes after the freeing
    assert (threads, seen) == (["card"], [True])


def test_closing_answers_what_is_in_line_and_then_nothing_more(worker, watched, busy):
    waiting = worker.submit(busy, VECTORS[5:6], 1, 0)
    closing = threading.Thread(target=worker.close)
    closing.start()
    watched.gate.set()
    closing.join(SOON_S)
    assert rows_of(waiting) == [[5]]
    assert worker.submit(busy, VECTORS[:1], 1, 0) is None
    with pytest.raises(DeviceFailed, match="card is closed; open the device again"):
        worker.load(lambda: Copy(watched), 0)
    worker.free(busy)
    worker.close()
