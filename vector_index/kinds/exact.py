"""Exact scan in NumPy: the reference every other kind is compared with."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vector_index.kinds.protocol import SegmentVectors
from vector_index.kinds.vectors_file import open_vectors, write_vectors


class ExactVectors:
    """A float32 (n, dim) matrix and a matrix product; memory grows with queries times rows."""

    kind: Literal["exact"] = "exact"

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.originals = vectors

    @property
    def count(self) -> int:
        return len(self.originals)

    @property
    def dim(self) -> int:
        return int(self.originals.shape[1])

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        effort: float = 1.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = np.arange(self.count) if allowed is None else np.flatnonzero(allowed)
        products = queries @ self.originals[rows].T
        # Rows ascend and the sort is stable: equal scores stay in the order of their rows.
        best = np.argsort(-products, axis=1, kind="stable")[:, :k]
        scores = np.full((len(queries), k), -np.inf, np.float32)
        found = np.full((len(queries), k), -1, np.int64)
        scores[:, : best.shape[1]] = np.take_along_axis(products, best, axis=1)
        found[:, : best.shape[1]] = rows[best]
        return scores, found

    def effort_for(self, k: int, among: float) -> float:
        return 1.0

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.originals[rows]

    def write(self, folder: Path) -> None:
        write_vectors(folder, self.originals)


def build_exact(
    vectors: NDArray[np.float32], *, like: SegmentVectors | None = None
) -> ExactVectors:
    """These vectors in this order; there is nothing to learn from `like`."""
    return ExactVectors(vectors)


def open_exact(folder: Path) -> ExactVectors:
    """Opens written vectors memory-mapped, so that processes share one copy."""
    return ExactVectors(open_vectors(folder))
