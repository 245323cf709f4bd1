"""How many of its lists an IVF index must look at: measured on its own rows when it is trained.

The k best of m rows that a filter keeps at random lie as far from the query as the nearest k / m of
all rows. So what is measured is how many lists hold a given share of the rows nearest to a query,
and that one curve answers for every filter, k and number of dead rows.
"""

from bisect import bisect_left
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from vector_index.kinds.products import best_rows

# Of the nearest rows so many are in the lists. Held-out queries of 100,000 and 1,000,000 x 384
# clustered rows found, at every share from 0.5 to 0.005, at most 0.01 less.
_RECALL = 0.97
# 128 queries against every row cost 3% of the training: 100,000 x 384 0.3 of 12 s.
_QUERIES = 128
_NEIGHBOURS = 16
# From one point of the curve to the next the rows are thinned so much, down to so few. The curve is
# steep where a cluster ends: with a quarter of the rows a point, it cuts that corner.
_THINNING = 2
_LEAST_ROWS = 4 * _NEIGHBOURS
_SEED = 20261125


@dataclass(frozen=True, slots=True)
class Reach:
    """The nearest lists[i] lists hold the nearest shares[i] of all rows; both ascend.

    The last point is all rows in all lists.
    """

    shares: tuple[float, ...]
    lists: tuple[float, ...]

    def lists_for(self, share: float) -> float:
        """How many lists hold this share, above 0, of the rows: from 1 to all.

        A line between the points, both axes logarithmic; the first point's value before it.
        """
        if share <= self.shares[0]:
            return self.lists[0]
        right = min(bisect_left(self.shares, share), len(self.shares) - 1)
        (x0, x1), (y0, y1) = self.shares[right - 1 : right + 1], self.lists[right - 1 : right + 1]
        return y0 * (y1 / y0) ** (log(min(share, x1) / x0) / log(x1 / x0))


def measure_reach(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32], lists: NDArray[np.uint16]
) -> Reach:
    """The curve of an index of float32 (n, dim) with these centroids; lists (n,) of each row.

    Some rows are the queries; a row is no neighbour of itself.
    """
    rng = np.random.default_rng(_SEED)
    count = len(vectors)
    asked = np.sort(rng.choice(count, min(_QUERIES, count), replace=False))
    queries = vectors[asked]
    ranks = np.argsort(np.argsort(-(queries @ centroids.T), axis=1), axis=1)
    curve: dict[float, float] = {}
    size, least = count, 1.0
    while size >= _LEAST_ROWS or not curve:
        among = None if size == count else np.sort(rng.choice(count, size, replace=False))
        found = best_rows(queries, vectors, _NEIGHBOURS + 1, among)[1]
        lines, columns = np.nonzero(found != asked[:, np.newaxis])
        places = ranks[lines, lists[found[lines, columns]]] + 1
        least = max(least, float(np.quantile(places, _RECALL, method="higher")))
        curve[_NEIGHBOURS / size] = least
        size //= _THINNING
    curve[1.0] = len(centroids)
    return Reach(tuple(curve), tuple(curve.values()))
