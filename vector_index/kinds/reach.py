"""How far an IVF index must look for its nearest rows: measured on its own rows when it is trained.

The k best of m rows that a filter keeps at random lie as far from the query as the nearest k / m
of all rows. So what is measured is where a given share of the rows nearest to a query lie, and that
one curve answers for every filter, k and number of dead rows.

Two bounds tell near lists: how many, and how much worse a list's centroid may be than the best one.
The second follows the query. A row's own neighbours are in few lists; a question, which is like no
row, has many centroids that are nearly as good as the best. recall@10 of half the rows of 5,000
real passages: 0.96 for held-out passages and 0.87 for questions by a number of lists, 0.98 and 0.95
by both; of 1,000,000 clustered rows both took 27 lists on average where a number took 60.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from vector_index.kinds.products import Best, best_rows, joined
from vector_index.kinds.vectors_file import blocks

# Of the nearest rows so many are within both bounds, and so many in the number of lists alone. The
# callers' margin adds to it: held-out queries of 1,000,000 clustered rows, 1% allowed, find 0.977.
_RECALL = 0.955
_MOST_RECALL = 0.99
_QUERIES = 128
_NEIGHBOURS = 16
# From one point of the curve to the next the rows are thinned so much, down to so few.
_THINNING = 2
_LEAST_ROWS = 4 * _NEIGHBOURS
# Between points whose gaps differ by more a cluster ends, nobody knows where: the upper one counts.
# A line cut that corner: recall@10 0.914 at 60 tight clusters of 100 rows, a tenth of them allowed.
_EDGE = 1.5
# No two centroids of unit length differ more in their product with a unit vector.
_ANY_GAP = 2.0
_SEED = 20261125


@dataclass(frozen=True, slots=True)
class Reach:
    """Of the rows the nearest shares[i] are in the nearest lists[i] lists, within gaps[i].

    A list is within a gap when its centroid's product with a query of unit length is at most so
    much below the best centroid's. All ascend; the last point is all rows in all lists.
    """

    shares: tuple[float, ...]
    lists: tuple[float, ...]
    gaps: tuple[float, ...]

    def lists_for(self, share: float) -> float:
        """How many lists to look at, at most, for this share, above 0, of the rows: from 1 on.

        Between two points it is on the line between them, both axes logarithmic, or the upper one.
        """
        right = bisect_left(self.shares, share)
        if 0 < right < len(self.shares) and self.gaps[right] > _EDGE * self.gaps[right - 1]:
            return self.lists[right]
        return exp(_between(share, self.shares, [log(lists) for lists in self.lists]))

    def gap_for(self, lists: float) -> float:
        """The gap that goes with so many lists, from 1 on."""
        return _between(lists, self.lists, self.gaps)


def _between(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """On the line between the points beside x, which is on a logarithmic axis, or the outer y."""
    right = bisect_left(xs, x)
    if right in (0, len(xs)):
        return ys[max(right - 1, 0)]
    before, after = right - 1, right
    part = log(x / xs[before]) / log(xs[after] / xs[before])
    return ys[before] + part * (ys[after] - ys[before])


def measure_reach(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32], lists: NDArray[np.uint16]
) -> Reach:
    """The curve of an index of float32 (n, dim) with these centroids; lists (n,) of each row.

    Some rows are the queries; a row is no neighbour of itself. It takes as long as comparing all
    rows with 256 more centroids: 3% of the training of 1,000,000 rows.
    """
    rng = np.random.default_rng(_SEED)
    count = len(vectors)
    asked = np.sort(rng.choice(count, min(_QUERIES, count), replace=False))
    queries = vectors[asked]
    products = queries @ centroids.T
    ranks = np.argsort(np.argsort(-products, axis=1), axis=1) + 1
    below_best = products.max(axis=1, keepdims=True) - products
    points: list[tuple[float, float, float]] = []
    size = count
    while size >= _LEAST_ROWS or not points:
        among = None if size == count else np.sort(rng.choice(count, size, replace=False))
        found = _nearest(queries, vectors, _NEIGHBOURS + 1, among)[1]
        lines, columns = np.nonzero(found != asked[:, np.newaxis])
        at = lines, lists[found[lines, columns]]
        most = np.quantile(ranks[at], _MOST_RECALL, method="higher")
        gaps = np.where(ranks[at] > most, np.float32(_ANY_GAP), below_best[at])
        gap = np.quantile(gaps, _RECALL, method="higher")
        points.append((_NEIGHBOURS / size, float(most), float(gap)))
        size //= _THINNING
    points.append((1.0, len(centroids), _ANY_GAP))
    # A point of fewer rows may come out below its neighbour by chance.
    shares, most_lists, widest = np.maximum.accumulate(points).T.tolist()
    return Reach(tuple(shares), tuple(most_lists), tuple(widest))


def _nearest(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    among: NDArray[np.int64] | None,
) -> Best:
    """As `best_rows`; of mapped vectors no more than a block stays in memory.

    The first sync of 1,000,000 x 384 had its peak here, with the whole file in memory: 3,423 MB
    resident (benchmarks/sync.py), now 2,472.
    """
    best: Best | None = None
    for where, block in blocks(vectors):
        rows = None
        if among is not None:
            first, end = np.searchsorted(among, (where.start, where.stop))
            rows = among[first:end] - where.start
            if not len(rows):
                continue
        scores, found = best_rows(queries, block, k, rows)
        later = scores, found + where.start
        best = later if best is None else joined(best, later, k)
    assert best is not None  # there are rows, and `among` names some of them
    return best
