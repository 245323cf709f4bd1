"""Exact scan in NumPy: the reference every other kind is compared with."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FILE = "vectors.npy"


class ExactVectors:
    """A float32 (n, dim) matrix and a matrix product."""

    kind = "exact"

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors

    @property
    def count(self) -> int:
        return len(self._vectors)

    @property
    def dim(self) -> int:
        return int(self._vectors.shape[1])

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        effort: float = 1.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = np.arange(self.count) if allowed is None else np.flatnonzero(allowed)
        scores = queries @ (self._vectors if allowed is None else self._vectors[rows]).T
        wanted = min(k, len(rows))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :wanted]
        out_scores = np.full((len(queries), k), -np.inf, np.float32)
        out_rows = np.full((len(queries), k), -1, np.int64)
        out_scores[:, :wanted] = np.take_along_axis(scores, best, axis=1)
        out_rows[:, :wanted] = rows[best]
        return out_scores, out_rows

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._vectors[rows])

    def write(self, folder: Path) -> None:
        np.save(folder / _FILE, self._vectors, allow_pickle=False)


def build_exact(vectors: NDArray[np.float32], *, like: object | None = None) -> ExactVectors:
    return ExactVectors(vectors)


def open_exact(folder: Path) -> ExactVectors:
    """Opens written vectors memory-mapped, so that processes share one copy."""
    return ExactVectors(np.load(folder / _FILE, mmap_mode="r", allow_pickle=False))
