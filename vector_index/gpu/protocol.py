"""The few calls by which a card is used: what FAISS does on a GPU, and its stand-in on the CPU."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import DeviceFailed

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Copy:
    """One segment on a card.

    index: a FAISS index. parameters: its search parameters by breadth, None where it has none.
    kept: what must live as long, because FAISS remembers where it lies.
    """

    index: Any
    parameters: Callable[[int], Any] | None = None
    kept: NDArray[np.float32] | None = None

    def search(self, queries: NDArray[np.float32], k: int, breadth: int) -> Found:
        """As FAISS finds them: scores float32 (n, k) in its own measure, rows int64 (n, k) or -1.

        queries: float32 (n, dim), C-contiguous. breadth: lists or graph nodes to look at, 0 where
        all is. Raises DeviceFailed.
        """
        parameters = None if self.parameters is None else self.parameters(breadth)
        try:
            scores, rows = self.index.search(queries, k, params=parameters)
        except RuntimeError as exc:
            raise DeviceFailed(
                f"a search for {k} rows of {len(queries)} queries failed: {exc}"
            ) from exc
        return scores, rows


class Accelerator(Protocol):
    """Makes copies on one card; called from the worker thread of that card and no other.

    Each raises DeviceFailed when the card refuses, for want of memory above all.
    """

    @property
    def has_graph(self) -> bool:
        """Whether `graph` can be called."""

    def flat(self, vectors: NDArray[np.float32]) -> Copy:
        """An exact index by inner product over float32 (n, dim)."""

    def lists(self, index: Any) -> Copy:
        """A copy of a FAISS IndexIVFFlat or IndexIVFScalarQuantizer; breadth is nprobe."""

    def graph(self, vectors: NDArray[np.float32]) -> Copy:
        """A graph over float32 (n, dim) of unit length; breadth is how many nodes it keeps."""
