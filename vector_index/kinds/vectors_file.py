"""vectors.npy: the original vectors of kinds whose index does not hold them in row order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vector_index.disk import forget_mapped, load_array
from vector_index.errors import IndexCorrupt

_FILE = "vectors.npy"
# Vectors that come out of a mapped file are worked through so many rows at a time.
_BLOCK_ROWS = 32_768


class VectorsFile:
    """A vectors.npy of float32 (rows, dim), written block by block."""

    def __init__(self, folder: Path, rows: int, dim: int) -> None:
        self._file = (folder / _FILE).open("wb")
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, vectors: NDArray[np.float32]) -> None:
        """Writes the next rows."""
        for _, block in blocks(vectors):
            np.ascontiguousarray(block, "<f4").tofile(self._file)

    def __enter__(self) -> "VectorsFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def write_vectors(folder: Path, vectors: NDArray[np.float32]) -> None:
    """Writes float32 (n, dim)."""
    with VectorsFile(folder, *vectors.shape) as file:
        file.append(vectors)


def blocks(vectors: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The rows some at a time, each with where they are.

    Of vectors that are memory-mapped no more than these rows stay in memory.
    """
    for first in range(0, len(vectors), _BLOCK_ROWS):
        where = slice(first, first + _BLOCK_ROWS)
        yield where, vectors[where]
        forget_mapped(vectors)


def open_vectors(folder: Path) -> NDArray[np.float32]:
    """The written vectors, memory-mapped read-only. Raises IndexCorrupt if they are not that."""
    try:
        mapped = load_array(folder / _FILE, is_mapped=True)
    except (OSError, ValueError) as exc:
        raise IndexCorrupt(f"{folder.name}: {_FILE} cannot be opened: {exc}") from exc
    if mapped.dtype != np.float32 or mapped.ndim != 2:
        raise IndexCorrupt(f"{folder.name}: {_FILE} holds {mapped.dtype} {mapped.shape}")
    # np.memmap pays for its class on every slice; the plain view keeps the mapping alive.
    return np.asarray(mapped)


def open_originals(folder: Path, index: Any) -> NDArray[np.float32]:
    """As `open_vectors`, for a FAISS index. Raises IndexCorrupt too where they do not fit it."""
    originals = open_vectors(folder)
    if originals.shape != (index.ntotal, index.d):
        raise IndexCorrupt(
            f"{folder.name}: the index holds {index.ntotal} x {index.d}, its originals are "
            f"{originals.shape[0]} x {originals.shape[1]}"
        )
    return originals
