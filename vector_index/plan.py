"""Stand-in for branch kinds' planner: masks, then an exact scan."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vector_index.kinds import SegmentVectors
from vector_index.masks import Mask


def nearest(
    vectors: SegmentVectors,
    queries: NDArray[np.float32],
    k: int,
    *,
    allowed: Mask | None,
    is_dead: Callable[[NDArray[np.int64]], Mask] | None,
    dead_share: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores float32 (n, k) and rows int64 (n, k) of the k nearest live allowed rows."""
    if is_dead is not None and dead_share > 0:
        live = ~is_dead(np.arange(vectors.count))
        allowed = live if allowed is None else allowed & live
    return vectors.scan(queries, k, allowed=allowed)
