"""Exact scan in NumPy: the reference every other kind is compared with."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FILE = "vectors.npy"


class ExactVectors:
    """A float32 (n, dim) matrix and a matrix-vector product."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors

    @property
    def count(self) -> int:
        return len(self._vectors)

    def scan(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = np.arange(self.count) if allowed is None else np.flatnonzero(allowed)
        scores = (self._vectors if allowed is None else self._vectors[rows]) @ query
        best = np.argsort(-scores, kind="stable")[:k]
        return scores[best], rows[best]

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._vectors[rows])

    def write(self, folder: Path) -> Path:
        path = folder / _FILE
        np.save(path, self._vectors, allow_pickle=False)
        return path


def open_exact(folder: Path) -> ExactVectors:
    """Opens written vectors memory-mapped, so that processes share one copy."""
    return ExactVectors(np.load(folder / _FILE, mmap_mode="r", allow_pickle=False))
