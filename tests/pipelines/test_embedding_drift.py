"""Gauges of a few vectors in the plane, worked out by hand, and of real texts."""

import math

import numpy as np
import pytest

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.embedding_drift import gauges, moments

EAST, NORTH, WEST, ZERO = [1, 0], [0, 1], [-1, 0], [0, 0]


def of(*vectors):
    return moments(np.array(vectors, np.float32).reshape(-1, 2))


def test_spread_is_one_less_the_length_of_the_mean():
    assert of(EAST, EAST).spread == pytest.approx(0)
    assert of(EAST, NORTH).spread == pytest.approx(1 - math.sqrt(0.5))
    assert of(EAST, WEST).spread == pytest.approx(1)


def test_vectors_without_a_direction_are_counted_and_left_out_of_the_mean():
    found = of(EAST, ZERO, [0, 1e-4], NORTH)
    assert found.near_zero_share == 0.5
    assert found.spread == pytest.approx(1 - math.sqrt(0.5))
    assert math.isnan(of(ZERO).spread)
    assert of().near_zero_share == 0


def test_length_does_not_weigh_and_moments_add_up():
    assert of([5, 0], NORTH).spread == pytest.approx(of(EAST, NORTH).spread)
    added, whole = of(EAST, ZERO) + of(NORTH), of(EAST, ZERO, NORTH)
    assert (added.count, added.near_zero) == (whole.count, whole.near_zero)
    np.testing.assert_allclose(added.total, whole.total)


def test_gauges_compare_the_mean_directions():
    found = gauges(of(NORTH, ZERO), of(EAST, NORTH))
    assert found.mean_cosine == pytest.approx(math.sqrt(0.5))
    assert (found.vectors, found.near_zero_share, found.spread) == (2, 0.5, pytest.approx(0))
    assert gauges(of(WEST), of(EAST)).mean_cosine == pytest.approx(-1)
    assert math.isnan(gauges(of(ZERO), of(EAST)).mean_cosine)
    assert math.isnan(gauges(of(), of(EAST)).mean_cosine)


def test_boilerplate_in_place_of_text_shows_in_both_gauges():
    embedder = HashingEmbedder(64)
    index = moments(embedder.embed_passages([f"topic {n} and word {n * 7}" for n in range(200)]))
    usual = moments(
        embedder.embed_passages([f"topic {n} and word {n * 7}" for n in range(200, 250)])
    )
    odd = moments(embedder.embed_passages(["please enable cookies to go on"] * 50))
    assert gauges(usual, index).mean_cosine > 0.95
    assert gauges(odd, index).mean_cosine < 0.5
    assert gauges(odd, index).spread < 0.01 < gauges(usual, index).spread
