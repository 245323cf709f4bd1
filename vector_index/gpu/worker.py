"""The one thread that touches a card: it loads copies, frees them, and searches them in batches.

Searches of the same copy for as many rows at the same breadth are stacked into one call while
others wait for the card. When the last call served several callers, who ask again as soon as
they are answered, the next waits a moment for them; a lone caller never waits.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import DeviceFailed, DeviceFull
from vector_index.gpu.protocol import Copy, Found


@dataclass(frozen=True, slots=True)
class Batching:
    """max_queries: in one call, a single search may have more. max_waiting: searches in line.

    wait_s: how long a call waits for callers that have just been served, at most.
    """

    max_queries: int = 256
    max_waiting: int = 1024
    wait_s: float = 0.0002


@dataclass(frozen=True, slots=True)
class _Search:
    handle: int
    queries: NDArray[np.float32]
    k: int
    breadth: int
    found: Future[Found] = field(default_factory=Future)

    def joins(self, other: "_Search") -> bool:
        return (self.handle, self.k, self.breadth) == (other.handle, other.k, other.breadth)


@dataclass(frozen=True, slots=True)
class _Load:
    make: Callable[[], Copy]
    size_bytes: int
    handle: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Free:
    handle: int


class _Stop:
    pass


_Message = _Search | _Load | _Free | _Stop


class Worker:
    """Owns every copy on a card. memory_bytes: what the copies may take together."""

    def __init__(self, name: str, *, memory_bytes: int, batching: Batching | None = None) -> None:
        self._batching = batching or Batching()
        self._memory_bytes = memory_bytes
        # Putting into it is safe in a finaliser, which may run while this thread holds the lock.
        self._inbox: SimpleQueue[_Message] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._loading = 0
        self._is_closed = False
        # The thread's own from here.
        self._line: deque[_Message] = deque()
        self._copies: dict[int, tuple[Copy, int]] = {}
        self._handles = itertools.count()
        self._served = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def load(self, make: Callable[[], Copy], size_bytes: int) -> int:
        """The handle of a copy made on the card's thread; meanwhile no search is taken.

        Waits for what is in line. Raises DeviceFull when size_bytes exceed what is left of the
        budget, DeviceFailed when the worker is closed, and whatever `make` raises.
        """
        load = _Load(make, size_bytes)
        with self._lock:
            if self._is_closed:
                raise DeviceFailed(f"{self._thread.name} is closed; open the device again")
            self._loading += 1
            self._inbox.put(load)
        return load.handle.result()

    def submit(
        self, handle: int, queries: NDArray[np.float32], k: int, breadth: int
    ) -> Future[Found] | None:
        """The search's result to come; None where it is not taken: loading, a full line, closed.

        Arguments as `Copy.search`. The future carries what the search raised; cancel it to give
        up, which costs those in the same batch nothing.
        """
        search = _Search(handle, queries, k, breadth)
        with self._lock:
            is_full = self._waiting >= self._batching.max_waiting
            if self._is_closed or self._loading or is_full:
                return None
            self._waiting += 1
            self._inbox.put(search)
        return search.found

    def free(self, handle: int) -> None:
        """Lets the copy go, on the card's thread and after the searches in line. Never blocks."""
        self._inbox.put(_Free(handle))

    def close(self) -> None:
        """Answers what is in line, frees every copy and ends the thread; again does nothing."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._inbox.put(_Stop())
        self._thread.join()

    def _run(self) -> None:
        while True:
            message = self._line.popleft() if self._line else self._inbox.get()
            match message:
                case _Search():
                    self._answer(self._gather(message))
                case _Load():
                    self._load(message)
                case _Free():
                    self._copies.pop(message.handle, None)
                case _Stop():
                    self._copies.clear()
                    return
            del message  # else it would live until the next one comes

    def _gather(self, first: _Search) -> list[_Search]:
        """The first in line and all that can be searched with it."""
        batch = [first]
        until = time.monotonic() + self._batching.wait_s
        while True:
            self._drain()
            self._take_joining(batch)
            is_full = _size(batch) >= self._batching.max_queries
            if self._line or is_full or len(batch) >= self._served:
                return batch
            try:
                self._line.append(self._inbox.get(timeout=max(0.0, until - time.monotonic())))
            except Empty:
                return batch

    def _drain(self) -> None:
        while True:
            try:
                self._line.append(self._inbox.get_nowait())
            except Empty:
                return

    def _take_joining(self, batch: list[_Search]) -> None:
        """Moves from the line to the batch what asks the same of the same copy and has room."""
        left: deque[_Message] = deque()
        room = self._batching.max_queries - _size(batch)
        for message in self._line:
            if (
                isinstance(message, _Search)
                and message.joins(batch[0])
                and len(message.queries) <= room
            ):
                batch.append(message)
                room -= len(message.queries)
            else:
                left.append(message)
        self._line = left

    def _answer(self, batch: list[_Search]) -> None:
        with self._lock:
            self._waiting -= len(batch)
        self._served = len(batch)
        batch = [one for one in batch if one.found.set_running_or_notify_cancel()]
        if not batch:
            return
        first = batch[0]
        try:
            queries = np.concatenate([one.queries for one in batch])
            copy, _ = self._copies[first.handle]
            scores, rows = copy.search(queries, first.k, first.breadth)
        except Exception as exc:  # noqa: BLE001 - whatever it is, its callers get it
            for one in batch:
                one.found.set_exception(exc)
            return
        start = 0
        for one in batch:
            end = start + len(one.queries)
            one.found.set_result((scores[start:end], rows[start:end]))
            start = end

    def _load(self, load: _Load) -> None:
        try:
            self._check_fits(load.size_bytes)
            handle = next(self._handles)
            self._copies[handle] = load.make(), load.size_bytes
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets it
            load.handle.set_exception(exc)
        else:
            load.handle.set_result(handle)
        finally:
            with self._lock:
                self._loading -= 1

    def _check_fits(self, size_bytes: int) -> None:
        used = sum(size for _, size in self._copies.values())
        if used + size_bytes > self._memory_bytes:
            raise DeviceFull(
                f"{size_bytes / 1e6:,.1f} MB do not fit: {used / 1e6:,.1f} of "
                f"{self._memory_bytes / 1e6:,.1f} MB are taken"
            )


def _size(batch: list[_Search]) -> int:
    return sum(len(search.queries) for search in batch)
