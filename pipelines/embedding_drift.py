"""How far the vectors of a commit lie from those of the index, in plain numbers for a gauge.

A mean direction that turns, or a spread that shrinks, is how a changed source shows (another
language, boilerplate in place of text, empty documents) while every row keeps its rules.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# An embedder's vector is of length 1; one this short has no direction to speak of.
_NEAR_ZERO = 1e-3


@dataclass(frozen=True, slots=True)
class Moments:
    """What is kept of any number of vectors: enough for every gauge, and it can be added up.

    total: float64 (dim,), the sum of the unit vectors of those that have a direction.
    """

    count: int
    near_zero: int
    total: NDArray[np.float64]

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count, self.near_zero + other.near_zero, self.total + other.total
        )

    @property
    def near_zero_share(self) -> float:
        """The share of vectors that have no direction; 0 of none."""
        return self.near_zero / self.count if self.count else 0.0

    @property
    def spread(self) -> float:
        """1 less the length of the mean of the unit vectors: 0 all alike, 1 all directions alike.

        The sample spherical variance of Mardia & Jupp, Directional Statistics (2000), 9.2.1. NaN
        where no vector has a direction.
        """
        counted = self.count - self.near_zero
        return 1 - float(np.linalg.norm(self.total)) / counted if counted else float("nan")


@dataclass(frozen=True, slots=True)
class DriftGauges:
    """A commit's vectors against the index's.

    mean_cosine: of the two mean directions, 1 where they point the same way; NaN where a mean has
    none. spread, index_spread: as Moments has them. near_zero_share: of the commit's vectors.
    """

    vectors: int
    mean_cosine: float
    spread: float
    index_spread: float
    near_zero_share: float


def no_moments(dim: int) -> Moments:
    """Of no vectors at all."""
    return Moments(0, 0, np.zeros(dim))


def moments(vectors: NDArray[np.float32]) -> Moments:
    """Of float32 (n, dim), finite."""
    norms = np.linalg.norm(vectors, axis=1).astype(np.float64)
    has_direction = norms > _NEAR_ZERO
    weights = np.divide(1.0, norms, out=np.zeros_like(norms), where=has_direction)
    total = weights @ vectors.astype(np.float64)
    return Moments(len(vectors), int((~has_direction).sum()), total)


def gauges(commit: Moments, index: Moments) -> DriftGauges:
    """The numbers to be shown. Both are of one embedder: of another the means tell nothing."""
    lengths = float(np.linalg.norm(commit.total)) * float(np.linalg.norm(index.total))
    return DriftGauges(
        vectors=commit.count,
        mean_cosine=float(commit.total @ index.total) / lengths if lengths else float("nan"),
        spread=commit.spread,
        index_spread=index.spread,
        near_zero_share=commit.near_zero_share,
    )
