"""Vectors of questions that were asked before, the newest that fit."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CacheState:
    entries: int
    size_bytes: int
    hits: int
    misses: int


class QueryCache:
    """By text. Safe across threads. A vector that comes out is read-only, as it went in."""

    def __init__(self, most_bytes: int) -> None:
        """most_bytes: of texts (UTF-8) and vectors; 0 keeps nothing."""
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._size = self._hits = self._misses = 0

    def get(self, text: str) -> NDArray[np.float32] | None:
        """(dim,), or None."""
        with self._lock:
            found = self._vectors.get(text)
            if found is None:
                self._misses += 1
                return None
            self._hits += 1
            self._vectors.move_to_end(text)
            return found

    def put(self, text: str, vector: NDArray[np.float32]) -> None:
        """Forgets what was not asked for longest, until it fits."""
        kept = vector.copy()
        kept.flags.writeable = False
        with self._lock:
            if text in self._vectors or _size(text, kept) > self._most_bytes:
                return
            self._vectors[text] = kept
            self._size += _size(text, kept)
            while self._size > self._most_bytes:
                self._size -= _size(*self._vectors.popitem(last=False))

    def state(self) -> CacheState:
        with self._lock:
            return CacheState(len(self._vectors), self._size, self._hits, self._misses)


def _size(text: str, vector: NDArray[np.float32]) -> int:
    return len(text.encode()) + vector.nbytes
