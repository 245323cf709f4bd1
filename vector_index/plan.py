"""How one segment is searched: planned on the exact share of rows that are allowed.

| rows allowed      | how                                                                    |
|-------------------|------------------------------------------------------------------------|
| none              | nothing is read                                                        |
| few               | exact scan of the allowed rows                                         |
| some              | the kind's own scan with a bitmap, widened by 1/share                  |
| nearly all, all   | the kind's own scan, more rows than asked, those not allowed dropped   |

Tombstones are always dropped after the scan. A scan that leaves too few rows is repeated wider,
and at last replaced by the exact scan, so that no row is ever missing for want of looking.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from vector_index.kinds import KindName, SegmentVectors
from vector_index.kinds.products import best_rows
from vector_index.masks import Mask

IsDead = Callable[[NDArray[np.int64]], Mask]
_Found = tuple[NDArray[np.float32], NDArray[np.int64]]

# A scan is widened so often, so much each time, before the exact scan takes over.
_ROUNDS = 3
_GROWTH = 4
_MAX_EFFORT = 16.0


@dataclass(frozen=True, slots=True)
class _Crossover:
    """Where one way of searching a kind becomes faster than the next, at recall@10 >= 0.95.

    exact_bytes: allowed vectors up to this size are scanned exactly, for one query;
    a batch shares what it reads, so `batch_exact_bytes` is for 4 queries or more.
    exact_share: allowed vectors up to this share of all are scanned exactly.
    drop_from: from this share on, rows that are not allowed are dropped after the scan.
    """

    exact_bytes: int
    batch_exact_bytes: int
    exact_share: float
    drop_from: float


# Measured by benchmarks/kinds.py at 100,000 x 384.
_EXACT = _Crossover(exact_bytes=0, batch_exact_bytes=0, exact_share=0.35, drop_from=0.35)
_IVF = _Crossover(exact_bytes=6 << 20, batch_exact_bytes=24 << 20, exact_share=0, drop_from=0.9)
_HNSW = _Crossover(exact_bytes=12 << 20, batch_exact_bytes=48 << 20, exact_share=0, drop_from=0.4)
_CROSSOVERS: Mapping[KindName, _Crossover] = {
    "exact": _EXACT,
    "flat": _EXACT,
    "ivf_flat": _IVF,
    "ivf_sq8": _IVF,
    "ivf_rabitq": _IVF,
    "hnsw": _HNSW,
    "hnsw_sq8": _HNSW,
}
_BATCH = 4


def nearest(
    vectors: SegmentVectors,
    queries: NDArray[np.float32],
    k: int,
    *,
    allowed: Mask | None = None,
    is_dead: IsDead | None = None,
    dead_share: float = 0.0,
) -> _Found:
    """The nearest allowed, living rows: scores float32 and rows int64, both (n, min(k, m)).

    m is how many rows are allowed and alive: there is never a row -1. Best first, ties by row;
    exact for exact kinds and wherever the plan scans exactly.

    queries: float32 (n, dim). allowed: bool (count,), None means every row. is_dead: says of
    int64 (m,) rows which are dead, None means none is. dead_share: an estimate of the share of
    dead rows, 0 to 1, which only costs time when wrong.
    """
    survivors = vectors.count if allowed is None else int(np.count_nonzero(allowed))
    wanted = min(k, survivors)
    if wanted == 0 or not len(queries):
        shape = (len(queries), 0)
        return np.empty(shape, np.float32), np.empty(shape, np.int64)
    queries = np.ascontiguousarray(queries)
    search = _Search(vectors, wanted, allowed, is_dead)
    crossover = _CROSSOVERS[vectors.kind]
    share = survivors / vectors.count
    if allowed is not None and _is_few(crossover, survivors, share, queries):
        return search.exact(queries)
    if share >= crossover.drop_from:
        kept, mask, effort = share * (1 - dead_share), None, 1.0
    else:
        kept, mask, effort = 1 - dead_share, allowed, min(1 / share, _MAX_EFFORT)
    return search.widening(queries, mask, effort, _with_slack(wanted, kept))


@dataclass(frozen=True, slots=True)
class _Search:
    """One search of one segment. k: at most the number of allowed rows."""

    vectors: SegmentVectors
    k: int
    allowed: Mask | None
    is_dead: IsDead | None

    def exact(self, queries: NDArray[np.float32]) -> _Found:
        """The exact best of all allowed rows that are alive."""
        rows = None if self.allowed is None else np.flatnonzero(self.allowed)
        if self.is_dead is not None:
            rows = np.arange(self.vectors.count) if rows is None else rows
            rows = rows[~self.is_dead(rows)]
        return best_rows(queries, self.vectors.originals, self.k, rows)

    def widening(
        self, queries: NDArray[np.float32], mask: Mask | None, effort: float, fetch: int
    ) -> _Found:
        """The kind's own scan, repeated wider for the queries it leaves with too few rows."""
        scores = np.empty((len(queries), self.k), np.float32)
        rows = np.empty((len(queries), self.k), np.int64)
        short = np.arange(len(queries))
        for _ in range(_ROUNDS):
            fetch = min(fetch, self.vectors.count)
            found = self.vectors.scan(queries[short], fetch, allowed=mask, effort=effort)
            is_full = self._keep(found, short, scores, rows)
            short = short[~is_full]
            if not len(short):
                return scores, rows
            if fetch == self.vectors.count:
                break
            fetch, effort = fetch * _GROWTH, effort * _GROWTH
        exact_scores, exact_rows = self.exact(queries[short])
        width = exact_rows.shape[1]  # that of every query: how many rows there are
        scores[short, :width], rows[short, :width] = exact_scores, exact_rows
        return scores[:, :width], rows[:, :width]

    def _keep(
        self,
        found: _Found,
        numbers: NDArray[np.int64],
        scores: NDArray[np.float32],
        rows: NDArray[np.int64],
    ) -> Mask:
        """Says which lines hold k good rows; fills those `numbers` of scores and rows."""
        found_scores, found_rows = found
        good = self._are_good(found_rows)
        is_full: Mask = np.count_nonzero(good, axis=1) >= self.k
        for line in np.flatnonzero(is_full):
            chosen = np.flatnonzero(good[line])[: self.k]
            scores[numbers[line]] = found_scores[line, chosen]
            rows[numbers[line]] = found_rows[line, chosen]
        return is_full

    def _are_good(self, rows: NDArray[np.int64]) -> Mask:
        """Which rows exist, are allowed and alive: nothing is returned unchecked."""
        good: Mask = rows >= 0
        if self.allowed is not None:
            good &= self.allowed[rows]
        if self.is_dead is not None:
            good[good] = ~self.is_dead(rows[good])
        return good


def _is_few(
    crossover: _Crossover, survivors: int, share: float, queries: NDArray[np.float32]
) -> bool:
    is_batch = len(queries) >= _BATCH
    limit = crossover.batch_exact_bytes if is_batch else crossover.exact_bytes
    size_bytes = survivors * queries.shape[1] * queries.itemsize
    return size_bytes <= limit or share < crossover.exact_share


def _with_slack(k: int, kept: float) -> int:
    """How many rows to fetch so that k are left, when each stays with probability `kept`.

    Three standard deviations more than the mean: one search in about a thousand repeats.
    """
    if kept >= 1:
        return k
    kept = max(kept, 1e-3)
    return ceil((k + 3 * sqrt(k * (1 - kept))) / kept)
