"""What the planner and the core know of a segment's vectors, whatever their kind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

KindName = Literal["exact", "flat", "ivf_flat", "ivf_sq8", "ivf_rabitq", "hnsw", "hnsw_sq8"]


class SegmentVectors(Protocol):
    """The L2-normalised vectors of an immutable segment, scanned by inner product."""

    @property
    def kind(self) -> KindName:
        """The name in KINDS under which these vectors were built and can be opened."""

    @property
    def count(self) -> int:
        """How many rows there are, dead ones included."""

    @property
    def dim(self) -> int:
        """The dimension of every vector."""

    @property
    def originals(self) -> NDArray[np.float32]:
        """The vectors as they were given, float32 (count, dim), read-only and not copied."""

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        effort: float = 1.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores float32 (n, k) and row numbers int64 (n, k), best first, ties by row.

        queries: float32 (n, dim), C-contiguous. allowed: bool (count,), None means every row.
        effort: above 0; multiplies how much of an approximate index is looked at, exact
        kinds ignore it. Scores are inner products with the original vectors, in every kind.
        A missing result is row -1 with score -inf; approximate kinds may miss allowed rows,
        `plan.nearest` does not.
        """

    def effort_for(self, k: int, among: float) -> float:
        """The effort that finds nearly all of the k nearest of `among` rows, above 0.

        among: how many rows qualify, strewn at random among all.
        """

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the original vectors of these rows, float32 (len(rows), dim)."""

    def write(self, folder: Path) -> None:
        """Writes the vectors' files into `folder`; nothing is synced."""


class Build(Protocol):
    """How a kind is built from float32 (n, dim), L2-normalised, C-contiguous.

    The vectors become `originals` where the kind needs not copy them: leave them as they are.
    like: a segment whose training may be kept; kinds that train nothing ignore it.
    Raises TooFewRows where there are too few to train on.
    """

    def __call__(
        self, vectors: NDArray[np.float32], *, like: SegmentVectors | None = None
    ) -> SegmentVectors: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """How to build a segment's vectors, how to open written ones, and from how many rows."""

    build: Build
    open: Callable[[Path], SegmentVectors]
    min_rows: int = 0


def usual_effort(count: int, among: float) -> float:
    """The effort where `among` of `count` rows qualify and nothing is known of the vectors.

    100,000 x 384 clustered rows, recall@10 and ms a query of ivf_flat and hnsw: half qualify,
    effort 1, 0.962 in 0.36 and 0.960 in 0.7; a fifth, 2, 0.954 in 0.37 and 0.958 in 1.4;
    a tenth, 4, 0.937 in 0.41 and 0.959; a twentieth, 8, 0.955 in 0.41 and 0.974.
    """
    return max(1.0, count / (2 * among))
