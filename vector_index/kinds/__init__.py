"""How the vectors of one segment are stored and scanned; one file per kind.

A kind is chosen by name from KINDS. `exact` is the NumPy reference, `flat` is FAISS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vector_index.kinds import exact, flat

KindName = Literal["exact", "flat"]


class SegmentVectors(Protocol):
    """The vectors of an immutable segment, scanned by inner product."""

    @property
    def kind(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        effort: float = 1.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores float32 (n, k) and rows int64 (n, k), best first; missing: -inf and -1."""

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The original vectors of these rows, float32 (len(rows), dim)."""

    def write(self, folder: Path) -> None:
        """Writes the vectors into `folder`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How to build a segment's vectors from float32 (n, dim), and how to open written ones."""

    build: Callable[..., SegmentVectors]
    open: Callable[[Path], SegmentVectors]


KINDS: Mapping[str, Kind] = {
    "exact": Kind(build=exact.build_exact, open=exact.open_exact),
    "flat": Kind(build=flat.build_flat, open=flat.open_flat),
}
