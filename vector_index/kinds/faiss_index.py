"""The border to FAISS that its kinds share: files, selectors, and the shape of its answers."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.errors import IndexCorrupt, WriteFailed
from vector_index.kinds.products import pick

_FILE = "index.faiss"


def write_index(folder: Path, index: Any) -> None:
    """Writes index.faiss; FAISS syncs nothing and checks little, the publisher does both.

    Raises WriteFailed where FAISS notices that the disk is full.
    """
    try:
        faiss.write_index(index, str(folder / _FILE))
    except RuntimeError as exc:
        raise WriteFailed(f"{folder.name}: {_FILE} could not be written: {exc}") from exc


def open_index(folder: Path, kind: type) -> Any:
    """The index in index.faiss, memory-mapped; its checksum has been verified by then.

    What is mapped is read-only: adding to it, or to a clone of it, aborts the process in FAISS
    1.15.1. Raises IndexCorrupt when the file is not an index of class `kind`.
    """
    try:
        index = faiss.read_index(str(folder / _FILE), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as exc:
        raise IndexCorrupt(f"{folder.name}: {_FILE} cannot be opened: {exc}") from exc
    if not isinstance(index, kind):
        raise IndexCorrupt(
            f"{folder.name}: {_FILE} is a {type(index).__name__}, not a {kind.__name__}"
        )
    return index


class Selector:
    """A FAISS id selector for bool (count,), None selecting all; keep it while searching."""

    def __init__(self, allowed: NDArray[np.bool_] | None) -> None:
        self.faiss = None
        if allowed is not None:
            # FAISS keeps a raw pointer to the bits.
            self._bits = np.packbits(allowed, bitorder="little")
            self.faiss = faiss.IDSelectorBitmap(self._bits)  # type: ignore[call-arg, arg-type]


class _Storage:
    """Lends the codes of a flat index to NumPy, which then keeps the index alive."""

    def __init__(self, flat: Any, owner: Any) -> None:
        self._owner = owner
        codes = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
        pointer = codes.__array_interface__["data"][0]
        self.__array_interface__ = {
            "shape": (flat.ntotal, flat.d),
            "typestr": "<f4",
            "data": (pointer, True),
            "version": 3,
        }


def storage_of(flat: Any, owner: Any) -> NDArray[np.float32]:
    """The vectors of an IndexFlat, float32 (ntotal, d), read-only, not copied.

    owner: what must stay alive as long as the result, the index or one that owns it.
    """
    if flat.ntotal == 0:
        return np.empty((0, flat.d), np.float32)
    return np.asarray(_Storage(flat, owner))


def in_order(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best k of each line, (n, c) to (n, k): ties by row, row -1 (any score) as -inf."""
    if rows.shape[1] == k and rows.min(initial=0) >= 0 and _descend(scores):
        return scores, rows  # almost always, and sorting again would cost 10 us a query
    scores = np.where(rows < 0, np.float32(-np.inf), scores)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    scores, rows = pick(scores, order), pick(rows, order)
    if (missing := k - rows.shape[1]) > 0:
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
    return scores, rows


def _descend(scores: NDArray[np.float32]) -> bool:
    return bool((scores[:, 1:] < scores[:, :-1]).all())
