"""The exact best rows, against a plain sort."""

import tracemalloc

import numpy as np
import pytest

from vector_index.kinds import products
from vector_index.kinds.products import best_rows, products_of

# Multiples of 1/2 have exact products, so that equal scores are equal in every order of adding.
GRID = np.random.default_rng(0).integers(-2, 3, (500, 4)).astype(np.float32) / 2
QUERIES = GRID[:7]


@pytest.mark.parametrize("block_bytes", [1, 1000, 1 << 20])
@pytest.mark.parametrize("queries", [0, 1, 7])
@pytest.mark.parametrize("k", [1, 30, 1000])
@pytest.mark.parametrize("rows", [None, np.arange(0, 500, 3), np.array([4]), np.arange(0)])
def test_blocks_of_any_size_give_the_best_rows_with_ties_by_row(
    block_bytes, queries, k, rows, monkeypatch
):
    monkeypatch.setattr(products, "_BLOCK_BYTES", block_bytes)
    asked = QUERIES[:queries]
    candidates = np.arange(500) if rows is None else rows
    expected = asked @ GRID[candidates].T
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    scores, found = best_rows(asked, GRID, k, rows)
    np.testing.assert_array_equal(found, candidates[order])
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, order, axis=1))


def test_each_query_has_products_with_its_own_rows():
    rows = np.array([[0, -1, 9], [3, 3, -1]])
    scores = products_of(QUERIES[:2], GRID, rows)
    assert np.isneginf(scores[rows < 0]).all()
    assert scores[0, 2] == QUERIES[0] @ GRID[9]
    assert scores[1, 0] == scores[1, 1] == QUERIES[1] @ GRID[3]


@pytest.mark.parametrize("queries", [1, 16])
def test_scanning_many_rows_never_copies_more_than_a_block(queries, monkeypatch):
    monkeypatch.setattr(products, "_BLOCK_BYTES", 1 << 16)
    vectors = np.ones((50_000, 64), np.float32)  # 12.8 MB
    rows = np.arange(50_000)
    tracemalloc.start()
    try:
        best_rows(vectors[:queries], vectors, 10, rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * (1 << 16)


@pytest.mark.parametrize("rows", [None, np.arange(0, 3000, 2)])
def test_vectors_at_an_odd_address_are_read_as_well(rows):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 16)).astype(np.float32)
    odd = np.frombuffer(b"x" + vectors.tobytes(), np.uint8)[1:].view(np.float32).reshape(3000, 16)
    assert not odd.flags.aligned
    queries = rng.standard_normal((8, 16)).astype(np.float32)
    expected = best_rows(queries, vectors, 5, rows)
    found = best_rows(queries, odd, 5, rows)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
