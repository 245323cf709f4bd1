"""Both legs as one search: fusing their hits, and the indexes that do it."""

import math

import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit

from vector_index.errors import InvalidQuery
from vector_index.filters import parse_filter
from vector_index.hybrid import Found, fuse, hits_of, leg_depth
from vector_index.local import LocalIndex
from vector_index.memory import InMemoryIndex
from vector_index.milvus import MilvusIndex
from vector_index.passages import Access
from vector_index.query import LegWeights

A, B, C = ("a", 0), ("b", 0), ("c", 0)


@pytest.fixture(params=["memory", "flat", "hnsw", "milvus"])
def index(request, four, tmp_path):
    if request.param == "memory":
        index = InMemoryIndex(settings())
    elif request.param == "milvus":
        index = MilvusIndex(request.getfixturevalue("milvus_place"), settings())
    else:
        index = LocalIndex(tmp_path / "docs", settings(request.param))
    index.publish(four, source())
    return index


def ids(hits):
    return [hit.passage.document_id for hit in hits]


def refs(found):
    return [key for one in found for key, _ in [one.ref]]


def test_what_is_fused_carries_the_scores_of_the_legs_that_found_it():
    assert fuse([(A, 0.9), (B, 0.8)], [(B, 7.0), (C, 3.0)], 10) == [
        Found(B, 1 / 62 + 1 / 61, vector_score=0.8, text_score=7.0),
        Found(A, 1 / 61, vector_score=0.9, text_score=None),
        Found(C, 1 / 62, vector_score=None, text_score=3.0),
    ]


def test_k_bounds_what_is_fused_but_for_what_ties_with_the_last():
    assert refs(fuse([(C, 1.0), (B, 0.5)], [(A, 1.0)], 1)) == ["a", "c"]
    assert refs(fuse([(C, 1.0), (B, 0.5)], [(A, 1.0)], 3)) == ["a", "c", "b"]
    assert fuse([], [], 5) == []


def test_ties_are_ordered_by_passage_and_then_cut_at_k():
    found = fuse([(C, 1.0)], [(A, 1.0)], 1)
    passages = [passage(key) for key in refs(found)]
    assert ids(hits_of(found, passages, 1)) == ["a"]


def test_weights_turn_the_balance():
    legs = [(A, 1.0), (B, 0.5)], [(B, 2.0), (C, 1.0)]
    assert refs(fuse(*legs, 3, LegWeights(ann=3.0, full_text=1.0)))[0] == "b"
    assert refs(fuse(*legs, 3, LegWeights(ann=1.0, full_text=0.0))) == ["a", "b", "c"]
    assert refs(fuse(*legs, 3, LegWeights(ann=0.0, full_text=1.0)))[:2] == ["b", "c"]


@pytest.mark.parametrize("weights", [(0, 0), (-1, 1), (math.nan, 1), (1, math.inf)])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(InvalidQuery, match="hybrid weights are"):
        LegWeights(*weights)


def test_legs_look_further_than_k_and_no_further_than_the_bound():
    assert [leg_depth(k) for k in (1, 10, 60, 1000)] == [50, 50, 120, 1000]


def test_full_text_finds_by_words_and_needs_no_vector(index):
    result = index.search(None, k=10, access=EVERYONE, text="text of b", mode="full_text")
    assert ids(result.hits)[0] == "b"
    assert len(result.hits) == 3
    assert result.hits[0].vector_score is None


def test_hybrid_fuses_the_two_kinds_of_search(index):
    options = {"k": 10, "access": EVERYONE}
    ann = index.search(unit(1, 0), **options).hits
    words = index.search(None, text="b", mode="full_text", **options).hits
    hybrid = index.search(unit(1, 0), text="b", mode="hybrid", **options).hits
    assert (ids(ann), ids(words)) == (["a", "b", "c"], ["b"])
    assert [hit.score for hit in hybrid] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 63])
    assert (hybrid[0].vector_score, hybrid[0].text_score) == (ann[1].score, words[0].score)
    assert ids(hybrid) == ["b", "a", "c"]
    weighted = index.search(
        unit(1, 0), text="b", mode="hybrid", weights=LegWeights(full_text=0.0), **options
    )
    assert ids(weighted.hits) == ["a", "b", "c"]


@pytest.mark.parametrize("mode", ["full_text", "hybrid"])
def test_filters_and_access_hold_in_every_kind_of_search(index, mode):
    options = {"k": 10, "text": "text of secret a b c", "mode": mode}
    where = parse_filter({"kind": "function"}, index.metadata_columns)
    found = index.search(unit(1, 0), access=EVERYONE, where=where, **options)
    assert sorted(ids(found.hits)) == ["a", "c"]
    board = Access("acme", frozenset({"board"}))
    assert ids(index.search(unit(1, 0), access=board, **options).hits) == ["secret"]


def test_a_hit_that_only_words_found_still_carries_its_cosine(index):
    def found(vector, text="c", mode="full_text"):
        (hit,) = index.search(vector, k=1, access=EVERYONE, text=text, mode=mode).hits
        return hit

    assert (found(None).vector_score, found(None).text_score) == (None, found(None).score)
    assert found(unit(1, 0)).vector_score == pytest.approx(0.6)
    assert found(unit(1, 0), text=None, mode="ann").vector_score == pytest.approx(1.0)


def test_full_text_stays_right_over_many_publishes_and_merges(index):
    for version in range(1, 25):
        body = passage(f"d{version % 5}", kind="module")
        index.publish(delta([(body, unit(0, 1))], removed=["a"]), source(version))
    found = index.search(None, k=100, access=EVERYONE, text="text of", mode="full_text")
    assert sorted(ids(found.hits)) == ["b", "c", "d0", "d1", "d2", "d3", "d4"]


def test_replaced_and_removed_documents_leave_the_full_text(index):
    index.publish(delta([(passage("b", kind="module"), unit(0, 1))], removed=["a"]), source(1))
    options = {"k": 10, "access": EVERYONE, "mode": "full_text"}
    assert sorted(ids(index.search(None, text="text", **options).hits)) == ["b", "c"]
    assert ids(index.search(None, text="a", **options).hits) == []
    (hit,) = index.search(None, text="b", **options).hits
    assert hit.passage.metadata["kind"] == "module"


@pytest.mark.parametrize(
    ("mode", "vector", "text", "field"),
    [
        ("ann", None, "b", "vector"),
        ("hybrid", None, "b", "vector"),
        ("hybrid", unit(1, 0), None, "text"),
        ("full_text", unit(1, 0), None, "text"),
    ],
)
def test_a_search_without_what_its_kind_needs_is_refused_by_name(index, mode, vector, text, field):
    with pytest.raises(InvalidQuery, match=f"needs a {field}") as caught:
        index.search(vector, k=1, access=EVERYONE, mode=mode, text=text)
    assert caught.value.field == field


@pytest.mark.parametrize("mode", ["ann", "full_text", "hybrid"])
def test_a_k_out_of_bounds_is_refused_in_every_kind_of_search(index, mode):
    for k in (0, 1001):
        with pytest.raises(InvalidQuery, match=f"k is {k}"):
            index.search(unit(1, 0), k=k, access=EVERYONE, text="b", mode=mode)
