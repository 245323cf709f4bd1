"""vectors.npy: the original vectors of kinds whose index does not hold them in row order."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vector_index.disk import load_array
from vector_index.errors import IndexCorrupt

_FILE = "vectors.npy"


def write_vectors(folder: Path, vectors: NDArray[np.float32]) -> None:
    """Writes float32 (n, dim)."""
    np.save(folder / _FILE, vectors, allow_pickle=False)


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
