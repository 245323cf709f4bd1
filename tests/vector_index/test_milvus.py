"""An index in Milvus: what others see of it, what restarts keep, and what it can be written by."""

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit
from milvus_lite.server_manager import server_manager_instance

from vector_index.errors import (
    EmbedderMismatch,
    IndexBusy,
    IndexNotFound,
    InvalidDelta,
    SettingsMismatch,
    StoreFailed,
    StoreMissing,
    WriterClosed,
)
from vector_index.filters import parse_filter
from vector_index.milvus import MilvusIndex, MilvusPlace, searching
from vector_index.milvus.expressions import alive_at
from vector_index.milvus.names import collections_of, value_field
from vector_index.passages import Access

BOARD = Access("acme", frozenset({"board"}))


@pytest.fixture
def filled(milvus_place, four):
    index = MilvusIndex(milvus_place, settings())
    index.publish(four, source())
    return index


def ids(result):
    return [hit.passage.document_id for hit in result.hits]


def find(index, form=None, access=EVERYONE, k=10, **options):
    where = None if form is None else parse_filter(form, index.metadata_columns)
    return index.search(unit(1, 0), k=k, access=access, where=where, **options)


def test_a_restarted_server_has_the_index_as_it_was(milvus_place, filled, four):
    version = filled.publish(delta([(passage("d"), unit(9, 1))], removed=["b"]), source(1))
    server_manager_instance.release_server(milvus_place.uri)
    again = MilvusIndex(milvus_place, settings())
    assert again.version() == version
    assert ids(find(again)) == ["a", "d", "c"]
    assert again.documents() == {i: f"hash-{i}" for i in ("a", "c", "d", "secret")}


def test_another_reader_follows_each_publish(milvus_place, filled):
    reader = MilvusIndex(milvus_place, settings())
    assert not reader.refresh()
    filled.publish(delta([], removed=["a"]), source(1))
    assert ids(find(reader)) == ["b", "c"]
    assert find(reader).version.number == 2
    filled.delete(["b"])
    assert reader.refresh()
    assert ids(find(reader)) == ["c"]


def test_an_index_built_by_another_embedder_or_settings_is_refused(milvus_place, filled):
    with pytest.raises(EmbedderMismatch, match="built by by-hand"):
        MilvusIndex(milvus_place, settings(weights="other"))
    with pytest.raises(SettingsMismatch, match=r"kind 'flat'.*drop the collections headrace_docs_"):
        MilvusIndex(milvus_place, settings("hnsw"))
    fewer = dataclasses.replace(settings(), metadata_columns={"kind": "string"})
    with pytest.raises(SettingsMismatch, match="metadata_columns"):
        MilvusIndex(milvus_place, fewer)


@pytest.mark.parametrize("kind", ["auto", "exact", "ivf_flat", "ivf_sq8", "hnsw", "hnsw_sq8"])
def test_every_kind_that_milvus_lite_has_returns_true_cosines(milvus_place, four, kind):
    index = MilvusIndex(milvus_place, settings(kind))
    index.publish(four, source())
    found = find(index)
    assert ids(found) == ["a", "b", "c"]
    assert [hit.score for hit in found.hits] == pytest.approx([1.0, 0.8, 0.6])


def test_two_indexes_of_one_server_do_not_meet(milvus_place, filled):
    other = MilvusIndex(milvus_place, settings(name="docs_2"))
    assert other.documents() == {}
    other.publish(delta([(passage("z"), unit(1, 0))]), source())
    assert (ids(find(other)), ids(find(filled))) == (["z"], ["a", "b", "c"])


def test_names_never_collide():
    names = ["docs", "docs_", "docs-", "docs_x2d_", "docs__x2d__", "Docs", "dócs", "d ocs"]
    assert len({collections_of(name).state for name in names}) == len(names)
    assert all(value_field(name).isascii() for name in names)


def test_rows_that_milvus_should_not_have_returned_are_dropped(milvus_place, filled, monkeypatch):
    monkeypatch.setattr(searching, "qualifying", lambda *_: "since >= 0")
    assert ids(find(filled, {"kind": "function"})) == ["a", "c"]
    assert ids(find(filled, access=BOARD)) == ["secret"]
    assert ids(find(filled, access=Access("other", EVERYONE.groups))) == []
    words = {"text": "text of a b c secret", "mode": "full_text"}
    assert ids(find(filled, access=BOARD, **words)) == ["secret"]


@pytest.mark.parametrize("mode", ["ann", "full_text", "hybrid"])
def test_k_are_found_however_many_others_come_first(filled, monkeypatch, mode):
    """The same with an expression that lets everybody's rows through, and a small answer."""
    foreign = [(passage(f"f{n:03}", groups=("board",)), unit(1, 0)) for n in range(300)]
    own = [(passage(f"own{n}", kind="class"), unit(0, 1)) for n in range(3)]
    filled.publish(delta(foreign + own, removed=["a", "b", "c", "secret"]), source(1))
    options = {"text": "text", "mode": mode, "k": 3}
    expected = find(filled, {"kind": "class"}, **options)
    assert ids(expected) == ["own0", "own1", "own2"]
    monkeypatch.setattr(searching, "qualifying", lambda step, *_: alive_at(step))
    assert ids(find(filled, {"kind": "class"}, **options)) == ids(expected)
    monkeypatch.setattr(searching, "_MOST_ROWS", 16)
    assert ids(find(filled, {"kind": "class"}, **options)) == ids(expected)
    assert ids(find(filled, {"kind": "class"}, text="text", mode=mode, k=9)) == ids(expected)


def test_an_approximate_index_that_loses_rows_is_not_believed(filled, monkeypatch):
    store = filled._store
    honest = store.nearest
    monkeypatch.setattr(store, "nearest", lambda *a, **o: honest(*a, **o)[:1])
    assert ids(find(filled)) == ["a", "b", "c"]


def test_ties_are_ordered_by_document_whatever_milvus_returns_first(filled):
    same = [(passage(f"t{n:03}"), unit(0, 1)) for n in reversed(range(150))]
    filled.publish(delta(same, removed=["a", "b", "c"]), source(1))
    assert ids(find(filled, k=5)) == [f"t{n:03}" for n in range(5)]
    words = find(filled, k=5, text="text", mode="full_text")
    assert ids(words) == [f"t{n:03}" for n in range(5)]


def test_a_reader_never_sees_half_a_change(milvus_place, filled):
    """Every document carries the number of the change; a result with two numbers is torn."""
    count = 12

    def change(number):
        rows = [(passage(f"d{n:02}", views=number), unit(1, n)) for n in range(count)]
        return delta(rows, removed=["a", "b", "c", "secret"] if number == 0 else [])

    filled.publish(change(0), source(1))
    reader = MilvusIndex(milvus_place, settings())
    is_over, seen, torn = threading.Event(), set(), []

    def read():
        while not is_over.is_set():
            found = find(reader, k=50).hits
            numbers = {hit.passage.metadata["views"] for hit in found}
            seen.update(numbers)
            if len(numbers) != 1 or len(found) != count:
                torn.append(found)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 15):
        filled.publish(change(number), source(number + 1))
    is_over.set()
    thread.join()
    assert torn == []
    assert len(seen) > 1


def test_vectors_are_found_again_by_the_text_they_were_made_from(milvus_place, filled):
    found = filled.vectors_of({"h-a-0", "h-b-0", "never"}, among={"a", "b"})
    assert sorted(found) == ["h-a-0", "h-b-0"]
    np.testing.assert_array_equal(found["h-b-0"], unit(4, 3))
    empty = MilvusIndex(milvus_place, settings(name="empty"))
    assert empty.vectors_of({"h-a-0"}, among={"a"}) == empty.hashes_of({"a"}) == {}
    assert filled.hashes_of({"a", "never"}) == {"a": "hash-a"}


def test_changes_before_the_first_publish_and_after_closing_are_refused(milvus_place, filled):
    empty = MilvusIndex(milvus_place, settings(name="empty"))
    for change in (lambda: empty.delete(["a"]), empty.flush, empty.version, empty.count):
        with pytest.raises(IndexNotFound):
            change()
    filled.close()
    for change in (lambda: filled.delete(["a"]), filled.flush):
        with pytest.raises(WriterClosed):
            change()
    assert ids(find(filled)) == ["a", "b", "c"]


def test_a_writer_that_was_overtaken_says_so_and_changes_nothing(milvus_place, filled, monkeypatch):
    other = MilvusIndex(milvus_place, settings())
    write = filled._changes.write

    def overtaken(*change):
        write(*change)
        other.flush()
        other.publish(delta([], removed=["b"]), source(5))

    monkeypatch.setattr(filled._changes, "write", overtaken)
    with pytest.raises(IndexBusy, match="another process changed index 'docs'"):
        filled.publish(delta([], removed=["a"]), source(1))
    assert filled.version().source == source(5)


def test_a_text_too_long_for_milvus_is_refused_and_changes_nothing(filled):
    long = dataclasses.replace(passage("long"), text="é" * 32_768)
    with pytest.raises(InvalidDelta, match=r"text of document 'long'.*65536 bytes"):
        filled.publish(delta([(passage("d"), unit(1, 0)), (long, unit(1, 0))]), source(1))
    assert ids(find(filled)) == ["a", "b", "c"]
    assert filled.count() == (4, 4)


def test_a_server_that_does_not_answer_is_named(tmp_path):
    with pytest.raises(StoreFailed, match=r"connecting to http://127\.0\.0\.1:9"):
        MilvusIndex(MilvusPlace("http://127.0.0.1:9", timeout_s=0.2), settings())


def test_a_missing_package_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(StoreMissing, match=r"pip install 'headrace\[milvus\]'"):
        MilvusIndex(MilvusPlace("http://127.0.0.1:9"), settings())


def test_pymilvus_is_imported_only_when_an_index_is_opened():
    program = "import sys, vector_index.milvus; print('pymilvus' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"


def test_a_token_is_not_printed():
    assert "s3cret" not in repr(MilvusPlace("http://host", token="s3cret"))


def test_a_large_change_whose_rows_another_one_repaired_away_is_refused(milvus_place, filled):
    before = filled.version()
    staging = filled.staging({"x": "hash-x", "y": "hash-y"})
    staging.add(delta([(passage("x"), unit(1, 0))]))
    other = MilvusIndex(milvus_place, settings())
    with pytest.raises(InvalidDelta):
        other.publish(delta([(passage("i" * 40_000), unit(1, 0))]), source(1))
    staging.add(delta([(passage("y"), unit(1, 0))]))
    with pytest.raises(IndexBusy, match="one sync at a time"):
        staging.publish(frozenset({"a"}), source(1), base=before)
    assert filled.version() == before
    assert sorted(filled.documents()) == ["a", "b", "c", "secret"]


def test_what_a_large_change_has_written_when_it_is_given_up_is_removed_by_the_next(filled):
    filled.staging({"x": "hash-x"}).add(delta([(passage("x"), unit(1, 0))]))
    filled.publish(delta([(passage("y"), unit(1, 0))]), source(1))
    assert sorted(filled.documents()) == ["a", "b", "c", "secret", "y"]
    filled.publish(delta([]), source(2))
    assert filled._changes.begun(2) == (1, 1)
