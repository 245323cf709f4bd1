"""FAISS IndexFlatIP: exact inner product at BLAS speed."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

_FILE = "index.faiss"


class FlatVectors:
    """A FAISS flat index over float32 (n, dim)."""

    kind = "flat"

    def __init__(self, index: Any) -> None:
        self._index = index

    @property
    def count(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        effort: float = 1.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        parameters = None if allowed is None else _selector(allowed)
        scores, rows = self._index.search(np.ascontiguousarray(queries), k, params=parameters)
        # A missing result is id -1 with the lowest float as its score.
        scores[rows < 0] = -np.inf
        return scores, rows

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._index.reconstruct_batch(rows)
        return vectors

    def write(self, folder: Path) -> None:
        faiss.write_index(self._index, str(folder / _FILE))


def build_flat(vectors: NDArray[np.float32], *, like: object | None = None) -> FlatVectors:
    """A flat index holding these vectors in this order."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return FlatVectors(index)


def open_flat(folder: Path) -> FlatVectors:
    """Opens a written index; its checksum has been verified by then."""
    return FlatVectors(faiss.read_index(str(folder / _FILE), faiss.IO_FLAG_MMAP_IFC))


def _selector(allowed: NDArray[np.bool_]) -> Any:
    bitmap = np.packbits(allowed, bitorder="little")
    selector = faiss.IDSelectorBitmap(bitmap)  # type: ignore[call-arg, arg-type]
    parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
    # FAISS keeps raw pointers only: the arrays must live as long as the search.
    parameters.keep_alive = (selector, bitmap)  # type: ignore[attr-defined]
    return parameters
