"""What a sync asks of an index, over every index that can be synced."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit

from vector_index.errors import IndexBusy, IndexMoved, NeverPublished
from vector_index.local import LocalIndex
from vector_index.milvus import MilvusIndex
from vector_index.options import WriterOptions
from vector_index.writer import IndexWriter


@pytest.fixture(params=["flat", "milvus"])
def index(request, tmp_path):
    if request.param == "milvus":
        return MilvusIndex(request.getfixturevalue("milvus_place"), settings())
    return LocalIndex(tmp_path / "docs", settings())


def ids(index):
    return [h.passage.document_id for h in index.search(unit(1, 0), k=10, access=EVERYONE).hits]


def test_a_change_made_for_another_state_is_refused(index, four):
    first = index.publish(four, source(), base=None)
    with pytest.raises(IndexMoved, match="made for nothing of index 'docs'"):
        index.publish(four, source(1), base=None)
    second = index.publish(delta([], removed=["a"]), source(1), base=first)
    with pytest.raises(IndexMoved, match=r"generation 1-.*generation 2-.* is live"):
        index.publish(delta([], removed=["b"]), source(2), base=first)
    assert (index.version(), ids(index)) == (second, ["b", "c"])


def test_content_hashes_are_handed_out_for_the_documents_asked_for(index, four):
    assert index.hashes_of({"a"}) == {}
    index.publish(four, source())
    index.publish(delta([], removed=["b"]), source(1))
    assert index.hashes_of({"a", "b", "never"}) == {"a": "hash-a"}


def test_vectors_are_handed_out_for_the_texts_asked_for(index, four):
    assert index.vectors_of({"h-a-0"}, among={"a"}) == {}
    index.publish(four, source())
    found = index.vectors_of({"h-b-0", "never"}, among={"a", "b"})
    assert list(found) == ["h-b-0"]
    np.testing.assert_allclose(found["h-b-0"], [0.8, 0.6], atol=1e-6)


def test_a_lease_is_one_threads_at_a_time(index):
    def try_it():
        with pytest.raises(IndexBusy, match="syncing index 'docs'"), index.lease():
            raise AssertionError("two have it")

    with index.lease(), ThreadPoolExecutor(1) as other:
        other.submit(try_it).result()
    with index.lease():
        pass


def test_a_change_in_parts_is_seen_when_it_is_published_and_not_before(index, four):
    index.publish(four, source())
    wanted = {"b": "hash-b", "x": "hash-x", "y": "hash-y"}
    staging = index.staging(wanted)
    assert list(staging.kept()) == []
    staging.add(delta([(passage("x"), unit(4, 3)), (passage("y"), unit(1, 0))]))
    staging.add(delta([(passage("b", kind="memo"), unit(0, 1))]))
    assert ids(index) == ["a", "b", "c"]
    staging.publish(frozenset({"a"}), source(1), base=index.version())
    assert ids(index) == ["y", "x", "c", "b"]
    assert index.version().source == source(1)
    assert index.count() == (5, 5)
    assert index.search(None, text="text of x", k=9, access=EVERYONE, mode="full_text").hits
    with pytest.raises(IndexMoved):
        index.staging({}).publish(frozenset(), source(2), base=None)


def test_vectors_of_a_text_are_found_in_any_document_also_in_the_tail(tmp_path, four):
    home = tmp_path / "docs"
    LocalIndex(home, settings()).publish(four, source())
    with IndexWriter(home, settings(), options=WriterOptions(merges=False)) as writer:
        writer.upsert(delta([(passage("x"), unit(0, 1))]))
        writer.delete(["a"])
        found = writer.vectors_of({"h-a-0", "h-x-0"})
        assert {text: vector.tolist() for text, vector in found.items()} == {
            "h-a-0": [1.0, 0.0], "h-x-0": [0.0, 1.0],
        }  # fmt: skip
        assert writer.hashes_of({"a", "x", "b"}) == {"x": "hash-x", "b": "hash-b"}


def test_a_lease_publishes_what_a_dead_writer_left_in_its_log(tmp_path, four):
    home = tmp_path / "docs"
    index = LocalIndex(home, settings())
    index.publish(four, source())
    writer = IndexWriter(home, settings())
    writer.upsert(delta([(passage("x"), unit(0, 1))]))
    writer.close()
    assert "x" not in index.documents()
    with index.lease():
        assert "x" in index.documents()
        index.publish(delta([], removed=["x"]), source(1), base=index.version())
    assert "x" not in LocalIndex(home, settings()).documents()


def test_before_the_first_publish_there_is_nothing_to_be_based_on(index, four):
    with index.lease(), pytest.raises(NeverPublished):
        index.version()
    staging = index.staging({key: f"hash-{key}" for key in ("a", "b", "c", "secret")})
    staging.add(four)
    staging.publish(frozenset(), source(), base=None)
    assert ids(index) == ["a", "b", "c"]
