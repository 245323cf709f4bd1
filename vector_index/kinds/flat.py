"""FAISS IndexFlatIP: exact inner product at the speed of memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.kinds.faiss_index import in_order, open_index, storage_of, write_index
from vector_index.kinds.products import best_rows
from vector_index.kinds.protocol import SegmentVectors
from vector_index.kinds.vectors_file import blocks

# FAISS reads the memory once per query until queries x dim reaches its process-wide threshold
# for BLAS; our own blocks read it once per batch. 100,000 x 384 (ms, one thread): 8 queries 40
# in FAISS, 38 here; 64 queries 316 and 85; 400 queries 319 and 480.
_SHARE_FROM = 8
_FAISS_BLAS_FROM = 128_000


class FlatVectors:
    """A FAISS flat index over float32 (n, dim), whose storage is the original vectors."""

    kind: Literal["flat"] = "flat"

    def __init__(self, index: Any) -> None:
        self._index = index
        self.originals = storage_of(index, index)

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
        if allowed is not None:
            # Faster than a FAISS selector at every selectivity (100,000 x 384, one query, ms):
            # 1 % 0.05 to 0.21, 10 % 1.2 to 2.6, 50 % 7.7 to 9.9.
            return in_order(*best_rows(queries, self.originals, k, np.flatnonzero(allowed)), k)
        if len(queries) >= _SHARE_FROM and queries.size < _FAISS_BLAS_FROM:
            return in_order(*best_rows(queries, self.originals, k), k)
        return self._search(queries, k)

    def effort_for(self, k: int, among: float) -> float:
        return 1.0

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.originals[rows]

    def write(self, folder: Path) -> None:
        write_index(folder, self._index)

    def _search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        # One more than asked shows whether the last score is tied with one left out: FAISS
        # leaves out any of equals, not the later rows.
        wanted = min(k + 1, self._index.ntotal)
        if wanted == 0:
            return in_order(*best_rows(queries, self.originals, k), k)
        scores, rows = self._index.search(queries, wanted)
        tied = wanted > k and scores[:, k - 1] == scores[:, k]
        scores, rows = in_order(scores, rows, k)
        if np.any(tied):
            scores[tied], rows[tied] = best_rows(queries[tied], self.originals, k)
        return scores, rows


def build_flat(vectors: NDArray[np.float32], *, like: SegmentVectors | None = None) -> FlatVectors:
    """A flat index holding these vectors in this order; it learns nothing from `like`."""
    index: Any = faiss.IndexFlatIP(vectors.shape[1])
    for _, block in blocks(vectors):
        index.add(block)
    return FlatVectors(index)


def join_flat(parts: Sequence[tuple[SegmentVectors, NDArray[np.int64]]]) -> FlatVectors:
    """A flat index of the kept rows of each part, one part after the other.

    They are gathered where FAISS keeps them, without a copy to add from. 100,000 x 384: 114 ms,
    where gathering, concatenating and adding took 162, and adding alone 100.
    """
    count, dim = sum(len(rows) for _, rows in parts), parts[0][0].dim
    if not count:
        return build_flat(np.empty((0, dim), np.float32))
    index: Any = faiss.IndexFlatIP(dim)
    index.codes.resize(count * index.code_size)
    index.ntotal = count
    stored = faiss.rev_swig_ptr(index.codes.data(), count * index.code_size)
    gather(parts, stored.view(np.float32).reshape(count, dim))
    return FlatVectors(index)


def gather(
    parts: Sequence[tuple[SegmentVectors, NDArray[np.int64]]], out: NDArray[np.float32]
) -> None:
    """Writes the original vectors of these rows of each part, one after the other, into `out`."""
    first = 0
    for part, rows in parts:
        # "clip" writes straight into `out`; rows are within the part.
        last = first + len(rows)
        np.take(part.originals, rows, axis=0, out=out[first:last], mode="clip")
        first = last


def open_flat(folder: Path) -> FlatVectors:
    """Opens a written index; the vectors stay in the page cache, shared between processes."""
    return FlatVectors(open_index(folder, faiss.IndexFlatIP))
