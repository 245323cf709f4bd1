"""Reciprocal rank fusion, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_index.fusion import reciprocal_rank_fusion

A, B, C = ("a", 0), ("b", 0), ("c", 0)


def test_a_score_is_the_sum_of_weights_over_sixty_plus_rank():
    fused = dict(reciprocal_rank_fusion([[A, B], [B, C]], [1.0, 0.5]))
    assert fused == pytest.approx({A: 1 / 61, B: 1 / 62 + 0.5 / 61, C: 0.5 / 62})


def test_being_in_both_rankings_beats_leading_one():
    fused = reciprocal_rank_fusion([[A, B], [C, B]], [1, 1])
    assert [key for key, _ in fused] == [B, A, C]


def test_equal_scores_are_ordered_by_key():
    fused = reciprocal_rank_fusion([[("b", 1)], [("b", 0)], [A]], [1, 1, 1])
    assert [key for key, _ in fused] == [A, ("b", 0), ("b", 1)]


def test_a_key_twice_in_a_ranking_counts_at_its_better_rank():
    assert reciprocal_rank_fusion([[A, B, A]], [1]) == [(A, 1 / 61), (B, 1 / 62)]


def test_a_ranking_without_weight_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        reciprocal_rank_fusion([[A], [B]], [1])


KEYS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)), unique=True)


@given(KEYS, KEYS)
def test_the_order_of_the_legs_does_not_matter(left, right):
    one = reciprocal_rank_fusion([left, right], [1, 1])
    other = reciprocal_rank_fusion([right, left], [1, 1])
    assert one == other
    assert {key for key, _ in one} == {*left, *right}
