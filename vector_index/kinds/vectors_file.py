"""vectors.npy: the original vectors of kinds whose index does not hold them in row order."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import IndexCorrupt

_FILE = "vectors.npy"


def write_vectors(folder: Path, vectors: NDArray[np.float32]) -> None:
    """Writes float32 (n, dim)."""
    np.save(folder / _FILE, vectors, allow_pickle=False)


def open_vectors(folder: Path) -> NDArray[np.float32]:
    """The written vectors, memory-mapped read-only. Raises IndexCorrupt if they are not that."""
    try:
        mapped = np.load(folder / _FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise IndexCorrupt(f"{folder.name}: {_FILE} cannot be opened: {exc}") from exc
    if mapped.dtype != np.float32 or mapped.ndim != 2:
        raise IndexCorrupt(f"{folder.name}: {_FILE} holds {mapped.dtype} {mapped.shape}")
    # np.memmap pays for its class on every slice; the plain view keeps the mapping alive.
    return np.asarray(mapped)
