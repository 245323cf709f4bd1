"""The same code path without a device: copies on the CPU, for tests and for trying the batching."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.errors import DeviceFailed
from vector_index.gpu.protocol import Copy

_M = 32
_EF_CONSTRUCTION = 64


class CpuAccelerator:
    """Copies with `faiss.clone_index`, and HNSW where a GPU has CAGRA.

    memory_bytes: refuses a copy that would bring all copies made to more than this, as a card
    whose memory is used by others does; None means no limit. Nothing is ever given back.
    """

    has_graph = True

    def __init__(self, *, memory_bytes: int | None = None) -> None:
        self._left = float("inf") if memory_bytes is None else memory_bytes

    def flat(self, vectors: NDArray[np.float32]) -> Copy:
        self._take(vectors.nbytes)
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return Copy(index)

    def lists(self, index: Any) -> Copy:
        self._take(index.ntotal * index.code_size)
        return Copy(
            faiss.clone_index(index),
            lambda breadth: faiss.SearchParametersIVF(nprobe=breadth),  # type: ignore[call-arg]
        )

    def graph(self, vectors: NDArray[np.float32]) -> Copy:
        self._take(vectors.nbytes)
        index = faiss.IndexHNSWFlat(vectors.shape[1], _M, faiss.METRIC_L2)
        index.hnsw.efConstruction = _EF_CONSTRUCTION
        index.add(vectors)
        return Copy(
            index,
            lambda breadth: faiss.SearchParametersHNSW(efSearch=breadth),  # type: ignore[attr-defined]
        )

    def _take(self, size_bytes: int) -> None:
        if size_bytes > self._left:
            raise DeviceFailed(f"out of memory: {size_bytes:,} bytes asked, {self._left:,} left")
        self._left -= size_bytes
