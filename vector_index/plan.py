"""How one segment is searched: planned on the exact share of rows that are allowed.

| rows allowed      | how                                                                    |
|-------------------|------------------------------------------------------------------------|
| none              | nothing is read                                                        |
| few               | exact scan of the allowed rows                                         |
| some              | the kind's own scan with a bitmap, as wide as so few rows need         |
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
from vector_index.kinds.products import best_rows, pick
from vector_index.kinds.protocol import usual_effort
from vector_index.masks import Mask

IsDead = Callable[[NDArray[np.int64]], Mask]
_Found = tuple[NDArray[np.float32], NDArray[np.int64]]

# A scan that came short is widened so much, so often, before the exact scan takes over.
_GROWTH = 4
_ROUNDS = 3
_LEAST_LIVING = 1e-3


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a kind's own scan costs, counted in allowed rows that are scanned exactly meanwhile.

    That is share x all rows + fixed + per_effort x effort; from fewer allowed rows on, the exact
    scan is faster. drop_from: the share allowed from which dropping beats the bitmap.
    """

    share: float = 0
    fixed: float = 0
    per_effort: float = 0
    drop_from: float = 0

    def in_rows(self, count: int, effort: float) -> float:
        return self.share * count + self.fixed + self.per_effort * effort


# For one query, and for a batch, whose exact scan reads each row once for all. Set by hand
# from sweeps over the data of benchmarks/kinds.py, one thread of a shared machine; those of a batch
# are estimates. ivf_sq8, one query, ms: of 100,000 x 384 5% exact 0.45, its own scan 0.5; of a
# million 0.5% 0.6 and 1.1, 1% 2.9 and 1.6. Dropping looks at the usual lists, the bitmap at those
# that the kept rows need: half of 100,000 kept 0.24 at recall 0.940 and 0.30 at 0.961.
_EXACT = (_Cost(share=0.35, drop_from=0.35), _Cost(share=0.85, drop_from=0.85))
_IVF = (_Cost(fixed=5_000, drop_from=0.8), _Cost(fixed=20_000, drop_from=0.8))
_HNSW = (_Cost(per_effort=3_000, drop_from=0.4), _Cost(per_effort=15_000, drop_from=0.4))
_COSTS: Mapping[KindName, tuple[_Cost, _Cost]] = {
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
    if allowed is None and is_dead is None:
        scores, rows = vectors.scan(queries, wanted)
        if rows.min() >= 0:
            return scores, rows
    search = _Search(vectors, wanted, allowed, is_dead)
    cost = _COSTS[vectors.kind][len(queries) >= _BATCH]
    share = survivors / vectors.count
    living = max(1 - dead_share, _LEAST_LIVING)
    is_dropping = share >= cost.drop_from
    effort = usual_effort(vectors.count, survivors * living)
    if not is_dropping:
        effort = vectors.effort_for(wanted, survivors * living)
    is_dropping_much = allowed is not None or effort > 1
    if is_dropping_much and survivors * living <= cost.in_rows(vectors.count, effort):
        return search.exact(queries)
    if is_dropping:
        return search.widening(queries, None, effort, _with_slack(wanted, share * living))
    return search.widening(queries, allowed, effort, _with_slack(wanted, living))


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
        short = np.arange(len(queries))  # the lines that still lack rows
        for _ in range(_ROUNDS):
            fetch = min(fetch, self.vectors.count)
            found = self.vectors.scan(queries[short], fetch, allowed=mask, effort=effort)
            good = self._are_good(found[1])
            is_full = good.sum(axis=1) >= self.k
            if len(short) == len(queries) and is_full.all():
                return _first(self.k, found, good)  # nearly always, at the first round
            full = short[is_full]
            kept = found[0][is_full], found[1][is_full]
            scores[full], rows[full] = _first(self.k, kept, good[is_full])
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

    def _are_good(self, rows: NDArray[np.int64]) -> Mask:
        """Which rows exist, are allowed and alive: nothing is returned unchecked."""
        good: Mask = rows >= 0
        if self.allowed is not None:
            good &= self.allowed[rows]
        if self.is_dead is not None:
            good[good] = ~self.is_dead(rows[good])
        return good


def _first(k: int, found: _Found, good: Mask) -> _Found:
    """The first k good columns of each line, each of which has as many."""
    columns = np.argsort(~good, axis=1, kind="stable")[:, :k]
    return pick(found[0], columns), pick(found[1], columns)


def _with_slack(k: int, kept: float) -> int:
    """How many rows to fetch so that k are left when each stays with probability `kept`.

    Three standard deviations more than the mean: one search in about a thousand repeats where
    rows are dropped at random.
    """
    return ceil((k + 3 * sqrt(k * (1 - kept))) / kept)
