"""What the planner promises for every kind, mask and set of tombstones."""

from unittest import mock

import numpy as np
import pytest
from by_hand import clustered
from hypothesis import given, settings
from hypothesis import strategies as st

from vector_index import plan
from vector_index.kinds import KINDS
from vector_index.plan import nearest

ROWS, K = 4000, 10
APPROXIMATE = ("ivf_flat", "ivf_sq8", "ivf_rabitq", "hnsw", "hnsw_sq8")
# Nothing is scanned exactly for being few, and hardly anything dropped: the kind must search.
NEVER_EXACT = {kind: (plan._Cost(drop_from=0.99),) * 2 for kind in KINDS}


VECTORS, QUERIES = clustered(ROWS, 0), clustered(12, 1)
# Multiples of 1/2 have exact products: ties are ties in every order of adding.
GRID = np.random.default_rng(0).integers(-2, 3, (400, 4)).astype(np.float32) / 2


@pytest.fixture(scope="module")
def built():
    return {kind: KINDS[kind].build(VECTORS) for kind in KINDS}


@pytest.fixture(params=["as measured", "never exact"])
def costs(request, monkeypatch):
    if request.param == "never exact":
        monkeypatch.setattr(plan, "_COSTS", NEVER_EXACT)


def dead_rows(dead):
    """is_dead for a bool mask, refusing what the planner must not ask."""

    def is_dead(rows):
        assert rows.ndim == 1
        assert (rows >= 0).all()
        return dead[rows]

    return is_dead


def brute_force(vectors, queries, k, good):
    rows = np.flatnonzero(good)
    order = np.argsort(-(queries @ vectors[rows].T), axis=1, kind="stable")[:, :k]
    return rows[order]


def check(vectors, queries, k, found, good):
    """The guarantee: min(k, m) good rows, each once, best first, with their true scores."""
    scores, rows = found
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    assert rows.shape == scores.shape == (len(queries), min(k, np.count_nonzero(good)))
    assert good[rows].all()
    assert all(len(set(line)) == len(line) for line in rows.tolist())
    expected = np.take_along_axis(queries @ vectors.T, rows, axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    steps = np.diff(scores, axis=1)
    assert ((steps < 0) | ((steps == 0) & (np.diff(rows, axis=1) > 0))).all()


def recall(rows, expected):
    pairs = zip(rows, expected, strict=True)
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs])


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("share", [0.0, 1 / ROWS, 0.001, 0.01, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("dead_share", [0.0, 0.1])
def test_a_mask_of_any_share_keeps_the_count_and_the_recall(kind, share, dead_share, built, costs):
    rng = np.random.default_rng(int(share * ROWS))
    allowed = np.zeros(ROWS, np.bool_)
    allowed[rng.permutation(ROWS)[: round(share * ROWS)]] = True
    dead = rng.random(ROWS) < dead_share
    good = allowed & ~dead
    for queries in (QUERIES[:1], QUERIES):
        found = nearest(
            built[kind], queries, K, allowed=allowed, is_dead=dead_rows(dead),
            dead_share=dead_share,
        )  # fmt: skip
        check(VECTORS, queries, K, found, good)
    if good.any():
        expected = brute_force(VECTORS, QUERIES, K, good)
        assert recall(found[1], expected) >= (0.95 if kind in APPROXIMATE else 1.0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_without_mask_and_tombstones_the_kind_answers_alone(kind, built):
    scores, rows = built[kind].scan(QUERIES, K)
    found = nearest(built[kind], QUERIES, K)
    np.testing.assert_array_equal(found[0], scores)
    np.testing.assert_array_equal(found[1], rows)


@pytest.mark.parametrize("kind", list(KINDS))
def test_tombstones_all_around_the_query_hide_nothing_that_lives(kind, built, costs):
    dead = np.zeros(ROWS, np.bool_)
    dead[np.argsort(-(VECTORS @ QUERIES[0]))[:500]] = True
    found = nearest(built[kind], QUERIES, K, is_dead=dead_rows(dead), dead_share=0.125)
    check(VECTORS, QUERIES, K, found, ~dead)
    expected = brute_force(VECTORS, QUERIES, K, ~dead)
    assert recall(found[1][:1], expected[:1]) >= (0.9 if kind in APPROXIMATE else 1.0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_far_from_the_query_are_found_when_only_they_are_allowed(kind, built, costs):
    allowed = np.zeros(ROWS, np.bool_)
    allowed[np.argsort(VECTORS @ QUERIES[0])[:200]] = True
    found = nearest(built[kind], QUERIES[:1], K, allowed=allowed)
    check(VECTORS, QUERIES[:1], K, found, allowed)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_wrong_estimate_of_the_dead_changes_no_count(kind, built, costs):
    dead = np.ones(ROWS, np.bool_)
    dead[::100] = False
    for estimate in (0.0, 1.0):
        found = nearest(built[kind], QUERIES, K, is_dead=dead_rows(dead), dead_share=estimate)
        check(VECTORS, QUERIES, K, found, ~dead)


@pytest.mark.parametrize("kind", list(KINDS))
def test_when_all_are_dead_nothing_is_found(kind, built):
    dead = np.ones(ROWS, np.bool_)
    scores, rows = nearest(built[kind], QUERIES, K, is_dead=dead_rows(dead), dead_share=1.0)
    assert scores.shape == rows.shape == (12, 0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_more_than_there_is_brings_everything(kind, built):
    found = nearest(built[kind], QUERIES[:2], ROWS + 5)
    check(VECTORS, QUERIES[:2], ROWS + 5, found, np.ones(ROWS, np.bool_))


def test_no_queries_are_answered_with_none(built):
    scores, rows = nearest(built["flat"], QUERIES[:0], K)
    assert scores.shape == rows.shape == (0, 0)


class Careless:
    """A kind that finds nothing, or the same forbidden row, and remembers how it was asked."""

    kind, count, dim, originals = "hnsw", ROWS, 32, VECTORS

    def __init__(self, row):
        self.row, self.asked = row, []

    def scan(self, queries, k, *, allowed=None, effort=1.0):
        self.asked.append((len(queries), k, allowed is not None, effort))
        shape = (len(queries), k)
        return np.zeros(shape, np.float32), np.full(shape, self.row, np.int64)

    def effort_for(self, k, among):
        return 1.0


@pytest.mark.parametrize("row", [-1, 0])
def test_what_a_kind_returns_against_the_mask_never_comes_through(row, monkeypatch):
    monkeypatch.setattr(plan, "_COSTS", NEVER_EXACT)
    allowed = np.arange(ROWS) % 2 == 1
    careless = Careless(row)
    found = nearest(careless, QUERIES, K, allowed=allowed)
    np.testing.assert_array_equal(found[1], brute_force(VECTORS, QUERIES, K, allowed))
    efforts = [effort for *_, effort in careless.asked]
    assert efforts == sorted(set(efforts))
    assert all(masked for _, _, masked, _ in careless.asked)


def test_only_the_queries_that_came_short_are_searched_again(built):
    dead = np.zeros(ROWS, np.bool_)
    dead[np.argsort(-(VECTORS @ QUERIES[0]))[:50]] = True
    with mock.patch.object(type(built["flat"]), "scan", autospec=True) as scan:
        scan.side_effect = lambda self, *args, **more: built["exact"].scan(*args, **more)
        nearest(built["flat"], QUERIES, K, is_dead=dead_rows(dead), dead_share=0.01)
    first, second = (len(call.args[1]) for call in scan.call_args_list[:2])
    assert (first, second < 12) == (12, True)


GRID_KINDS = {kind: KINDS[kind].build(GRID) for kind in ("exact", "flat", "ivf_flat", "hnsw")}


@settings(deadline=None, max_examples=200)
@given(
    kind=st.sampled_from(sorted(GRID_KINDS)),
    n=st.integers(1, 6),
    k=st.integers(1, 500),
    share=st.sampled_from([None, 0.0, 0.01, 0.1, 0.5, 0.95, 1.0]),
    dead_share=st.sampled_from([None, 0.0, 0.1, 0.6, 1.0]),
    estimate=st.floats(0, 1),
    is_measured=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_search_returns_exactly_as_many_as_qualify_and_exact_kinds_the_very_same(
    kind, n, k, share, dead_share, estimate, is_measured, seed
):
    rng = np.random.default_rng(seed)
    queries = rng.integers(-2, 3, (n, 4)).astype(np.float32) / 2
    allowed = None if share is None else rng.random(len(GRID)) < share
    dead = None if dead_share is None else rng.random(len(GRID)) < dead_share
    good = np.ones(len(GRID), np.bool_)
    good &= True if allowed is None else allowed
    good &= True if dead is None else ~dead
    with mock.patch.dict(plan._COSTS, {} if is_measured else NEVER_EXACT):
        found = nearest(
            GRID_KINDS[kind], queries, k, allowed=allowed,
            is_dead=None if dead is None else dead_rows(dead), dead_share=estimate,
        )  # fmt: skip
    check(GRID, queries, k, found, good)
    if kind in ("exact", "flat"):
        np.testing.assert_array_equal(found[1], brute_force(GRID, queries, k, good))
