"""One suite for every VectorIndex, against values computed by hand."""

import numpy as np
import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit

from vector_index.errors import IndexNotFound, InvalidDelta, InvalidFilter, InvalidQuery
from vector_index.filters import parse_filter
from vector_index.local import LocalIndex
from vector_index.memory import InMemoryIndex
from vector_index.milvus import MilvusIndex
from vector_index.passages import Access


@pytest.fixture(params=["memory", "exact", "flat", "ivf_sq8", "hnsw", "auto", "milvus"])
def index(request, tmp_path):
    if request.param == "memory":
        return InMemoryIndex(settings())
    if request.param == "milvus":
        return MilvusIndex(request.getfixturevalue("milvus_place"), settings())
    return LocalIndex(tmp_path / "docs", settings(request.param))


def ids(result):
    return [hit.passage.document_id for hit in result.hits]


def find(index, form=None, k=10, access=EVERYONE):
    where = None if form is None else parse_filter(form, index.metadata_columns)
    return index.search(unit(1, 0), k=k, access=access, where=where)


def test_hits_come_nearest_first_with_their_cosines(index, four):
    index.publish(four, source())
    result = find(index)
    assert ids(result) == ["a", "b", "c"]
    assert [hit.score for hit in result.hits] == pytest.approx([1.0, 0.8, 0.6])


def test_k_bounds_the_number_of_hits(index, four):
    index.publish(four, source())
    assert ids(find(index, k=2)) == ["a", "b"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"kind": "function"}, ["a", "c"]),
        ({"kind": ["class", "module"]}, ["b"]),
        ({"views": {"gte": 1, "lt": 10}}, ["a"]),
        ({"views": {"ne": 1}}, ["b"]),
        ({"views": None}, ["c"]),
        ({"not": {"views": {"gt": 5}}}, ["a", "c"]),
        ({"views": {"not_in": [1]}}, ["b"]),
        ({"tags": {"contains": "y"}}, ["b"]),
        ({"or": [{"kind": "class"}, {"views": 1}]}, ["a", "b"]),
        ({"or": []}, []),
        ({}, ["a", "b", "c"]),
    ],
)
def test_a_filter_keeps_exactly_the_rows_that_satisfy_it(index, four, form, expected):
    index.publish(four, source())
    assert ids(find(index, form)) == expected


def test_a_passage_is_seen_only_by_its_tenant_and_groups(index, four):
    index.publish(four, source())
    assert ids(find(index, access=Access("acme", frozenset({"board"})))) == ["secret"]
    assert ids(find(index, access=Access("other", frozenset({"staff", "board"})))) == []
    assert ids(find(index, access=Access("acme", frozenset()))) == []


def test_a_changed_document_replaces_all_its_passages_and_a_removed_one_is_gone(index, four):
    index.publish(four, source())
    version = index.publish(
        delta([(passage("b", kind="module"), unit(0, 1))], removed=["a"]), source(1)
    )
    result = find(index)
    assert ids(result) == ["c", "b"]
    assert result.hits[1].passage.metadata["kind"] == "module"
    assert (result.version, version.number, version.source.version) == (version, 2, 1)
    assert index.documents() == {"b": "hash-b", "c": "hash-c", "secret": "hash-secret"}


def test_many_small_publishes_leave_the_last_writer_of_every_document(index, four):
    index.publish(four, source())
    for number in range(1, 25):
        index.publish(delta([(passage("b", views=number), unit(1, number))]), source(number))
    result = find(index, {"views": 24})
    assert ids(result) == ["b"]
    assert result.hits[0].score == pytest.approx(1 / np.hypot(1, 24))
    assert len(find(index).hits) == 3


@pytest.mark.parametrize("k", [0, -1, 1001, 2**31])
def test_a_k_out_of_bounds_is_refused_by_name(index, four, k):
    index.publish(four, source())
    with pytest.raises(InvalidQuery, match=f"k is {k}"):
        find(index, k=k)


@pytest.mark.parametrize(
    "vector",
    [
        np.array([1, 0, 0], np.float32),
        np.array([np.nan, 0], np.float32),
        np.array([np.inf, 0], np.float32),
        np.array([1, 0], np.float64),
    ],
)
def test_a_vector_the_scan_could_not_trust_is_refused(index, four, vector):
    index.publish(four, source())
    with pytest.raises(InvalidQuery):
        index.search(vector, k=1, access=EVERYONE)


@pytest.mark.parametrize(
    "form",
    [{"nope": 1}, {"kind": 3}, {"views": "x"}, {"views": {"like": 1}}, {"tags": "x"}, {"or": 1},
     {"kind": {"contains": "x"}}, {"views": {"gt": True}}, [], {"views": {}}, {"views": 2**70}],
)  # fmt: skip
def test_a_filter_that_does_not_fit_the_columns_is_refused(index, four, form):
    index.publish(four, source())
    with pytest.raises(InvalidFilter):
        find(index, form)


def test_searching_before_the_first_publish_says_so(index):
    with pytest.raises(IndexNotFound):
        find(index)
    assert index.documents() == {}


@pytest.mark.parametrize(
    "vector", [np.array([2.0, 0]), np.array([np.nan, 0]), np.array([0.0, 0.0])]
)
def test_a_change_with_untrustworthy_vectors_changes_nothing(index, four, vector):
    index.publish(four, source())
    with pytest.raises(InvalidDelta):
        index.publish(delta([(passage("z"), vector)]), source(1))
    assert ids(find(index)) == ["a", "b", "c"]
