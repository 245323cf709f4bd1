"""FAISS HNSW graphs: hnsw, and hnsw_sq8 with vectors of one byte a dimension.

The graph and the vectors are memory-mapped on open. A graph cannot forget rows or take another
graph in: merging builds anew.
"""

from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.errors import TooFewRows
from vector_index.kinds.faiss_index import (
    Selector,
    in_order,
    open_index,
    storage_of,
    write_index,
)
from vector_index.kinds.products import products_of
from vector_index.kinds.protocol import SegmentVectors, usual_effort
from vector_index.kinds.vectors_file import open_originals, write_vectors

HnswKind = Literal["hnsw", "hnsw_sq8"]

# FAISS's guide to choosing an index: M of 4 to 64; 32 is IndexHNSW's own default.
M = 32
# 100,000 x 384 rows made as in benchmarks/kinds.py: a graph built with 64 in 43 s gives
# recall@10 of 0.967, 0.984 and 0.997 when searched with 64, 128 and 256. That script, on another
# draw of the data, has 0.978 with 96.
_EF_CONSTRUCTION = 64
_EF_SEARCH = 96
# Candidates of hnsw_sq8 scored again with the original vectors, per result.
_REFINE_SQ8 = 2
# The range that a byte covers is that of the rows themselves, so that one row will do.
MIN_ROWS_SQ8 = 1


class HnswVectors:
    """A FAISS HNSW index, and the original vectors: its own storage where that holds them."""

    def __init__(self, kind: HnswKind, index: Any, originals: NDArray[np.float32]) -> None:
        self.kind: HnswKind = kind
        index.hnsw.efSearch = _EF_SEARCH
        self._index = index
        self.originals = originals

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
        is_compressed = self.kind == "hnsw_sq8"
        wanted = max(1, min(k * _REFINE_SQ8 if is_compressed else k, self.count))
        selector, parameters = Selector(allowed), None
        if allowed is not None or effort != 1:  # else the index's own, 5 us sooner
            width = min(round(_EF_SEARCH * effort), self.count)
            # bounded_queue stays True: without it FAISS ignores the selector.
            parameters = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]
                sel=selector.faiss, efSearch=max(width, wanted)
            )
        scores, rows = self._index.search(queries, wanted, params=parameters)
        if is_compressed:
            scores = products_of(queries, self.originals, rows)
        return in_order(scores, rows, k)

    def effort_for(self, k: int, among: float) -> float:
        return usual_effort(self.count, among)

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.originals[rows]

    def write(self, folder: Path) -> None:
        write_index(folder, self._index)
        if self.kind == "hnsw_sq8":
            write_vectors(folder, self.originals)


def build_hnsw(vectors: NDArray[np.float32], *, like: SegmentVectors | None = None) -> HnswVectors:
    """A graph over these vectors in this order; there is nothing to learn from `like`."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _EF_CONSTRUCTION
    index.add(vectors)
    return HnswVectors("hnsw", index, storage_of(_flat_storage(index), index))


def build_hnsw_sq8(
    vectors: NDArray[np.float32], *, like: SegmentVectors | None = None
) -> HnswVectors:
    """A graph over compressed vectors. Raises TooFewRows without a row to take ranges from."""
    if len(vectors) < MIN_ROWS_SQ8:
        raise TooFewRows(
            f"hnsw_sq8 needs at least {MIN_ROWS_SQ8} row, got 0; build this segment as 'flat'"
        )
    index = faiss.IndexHNSWSQ(
        vectors.shape[1],
        faiss.ScalarQuantizer.QT_8bit,  # type: ignore[arg-type]
        M,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.hnsw.efConstruction = _EF_CONSTRUCTION
    index.train(vectors)
    index.add(vectors)
    return HnswVectors("hnsw_sq8", index, vectors)


def open_hnsw(folder: Path) -> HnswVectors:
    """Opens a written graph with its vectors mapped."""
    index = open_index(folder, faiss.IndexHNSWFlat)
    return HnswVectors("hnsw", index, storage_of(_flat_storage(index), index))


def open_hnsw_sq8(folder: Path) -> HnswVectors:
    """Opens a written graph over compressed vectors, and the originals, all mapped."""
    index = open_index(folder, faiss.IndexHNSWSQ)
    originals = open_originals(folder, index)
    return HnswVectors("hnsw_sq8", index, originals)


def _flat_storage(index: Any) -> Any:
    return faiss.downcast_index(index.storage)
