"""One suite for every WritableIndex that is also a BrowsableIndex, against values by hand."""

import numpy as np
import pyarrow as pa
import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit

from vector_index.errors import IndexNotFound, InvalidDelta, InvalidQuery, WriterClosed
from vector_index.filters import parse_filter
from vector_index.memory import InMemoryIndex
from vector_index.milvus import MilvusIndex
from vector_index.passages import Access
from vector_index.writer import IndexWriter

BOARD = Access("acme", frozenset({"board"}))


@pytest.fixture(params=["memory", "writer", "milvus"])
def index(request, tmp_path):
    if request.param == "memory":
        index = InMemoryIndex(settings())
    elif request.param == "milvus":
        index = MilvusIndex(request.getfixturevalue("milvus_place"), settings())
    else:
        index = IndexWriter(tmp_path / "docs", settings())
    yield index
    index.close()


@pytest.fixture
def filled(index, four):
    index.publish(four, source())
    return index


def ids(result):
    return [hit.passage.document_id for hit in result.hits]


def find(index, form=None, access=EVERYONE, k=10):
    where = None if form is None else parse_filter(form, index.metadata_columns)
    return index.search(unit(1, 0), k=k, access=access, where=where)


def test_an_upsert_is_searchable_at_once_and_counts_up_the_sequence(filled):
    before = filled.version()
    version = filled.upsert(delta([(passage("d", kind="class"), unit(9, 1))]))
    result = find(filled)
    assert ids(result) == ["a", "d", "b", "c"]
    assert result.version == version
    assert (version.sequence, version.number) == (before.sequence + 1, before.number)


def test_an_upsert_replaces_the_whole_document_wherever_it_was(filled):
    for step, angle in enumerate([unit(0, 1), unit(1, 1), unit(0, 1)]):
        two = [(passage("a", ordinal=o, views=step), angle) for o in (0, 1)]
        filled.upsert(delta(two))
    assert ids(find(filled, {"views": 2})) == ["a", "a"]
    assert ids(find(filled)) == ["b", "c", "a", "a"]
    filled.upsert(delta([(passage("a"), unit(1, 0))]))
    assert ids(find(filled)) == ["a", "b", "c"]


def test_a_delete_is_seen_at_once_and_an_unknown_id_changes_nothing(filled):
    filled.delete(["a"])
    assert ids(find(filled)) == ["b", "c"]
    version = filled.version()
    assert filled.delete(["a", "never"]) == version
    filled.upsert(delta([(passage("a"), unit(1, 0))]))
    filled.delete({"a", "b"})
    assert ids(find(filled)) == ["c"]


def test_one_upsert_may_also_remove(filled):
    filled.upsert(delta([(passage("d"), unit(1, 0))], removed=["a", "b"]))
    assert ids(find(filled)) == ["d", "c"]
    assert filled.documents() == {"c": "hash-c", "d": "hash-d", "secret": "hash-secret"}


def test_a_change_can_name_the_table_version_it_leads_to(filled):
    assert filled.upsert(delta([(passage("d"), unit(1, 0))]), source=source(7)).source == source(7)
    assert filled.delete(["nothing"], source=source(8)).source == source(8)
    flushed = filled.flush()
    assert flushed.source == source(8)
    assert flushed.generation.endswith("v8")


def test_a_flush_changes_no_answer_and_happens_only_when_there_is_something(filled):
    assert filled.flush().number == 1
    filled.upsert(delta([(passage("d"), unit(9, 1))], removed=["b"]))
    before = find(filled).hits
    version = filled.flush()
    assert version.number == 2
    assert find(filled).hits == before
    assert filled.flush() == version


def test_access_and_filters_hold_before_a_flush_too(filled):
    filled.upsert(
        delta(
            [
                (passage("hidden", groups=("board",), kind="class"), unit(1, 0)),
                (passage("foreign", tenant="other", kind="class"), unit(1, 0)),
                (passage("nobody", groups=None, kind="class"), unit(1, 0)),
                (passage("e", kind="class", tags=["z"]), unit(1, 0)),
            ]
        )
    )
    assert ids(find(filled, {"kind": "class"})) == ["e", "b"]
    assert ids(find(filled, {"tags": {"contains": "z"}})) == ["e"]
    assert ids(find(filled, access=BOARD)) == ["hidden", "secret"]
    assert ids(find(filled, access=Access("acme", frozenset()))) == []


def test_a_document_may_have_no_passages(filled):
    filled.upsert(delta([(passage("d"), unit(1, 0))]))
    empty = delta([(passage("d"), unit(1, 0))])
    empty = type(empty)(
        empty.documents, empty.passages.slice(0, 0), empty.vectors[:0], frozenset({"a"})
    )
    filled.upsert(empty)
    assert ids(find(filled)) == ["b", "c"]
    assert filled.documents()["d"] == "hash-d"
    filled.flush()
    assert filled.documents()["d"] == "hash-d"
    assert filled.count() == (4, 3)


def test_counts_are_of_what_lives(filled):
    assert filled.count() == (4, 4)
    filled.upsert(delta([(passage("a", ordinal=o), unit(1, 0)) for o in range(3)], removed=["b"]))
    assert filled.count() == (3, 5)
    filled.flush()
    assert filled.count() == (3, 5)


def test_a_batch_finds_what_single_searches_find(filled):
    filled.upsert(delta([(passage("d"), unit(1, 2))], removed=["a"]))
    queries = np.array([unit(1, 0), unit(0, 1), unit(-1, 1)], np.float32)
    found = filled.search_many(queries, k=2, access=EVERYONE)
    for number, query in enumerate(queries):
        hits = filled.search(query, k=2, access=EVERYONE).hits
        assert found.passages(number) == [hit.passage for hit in hits]
        assert found.scores[number] == pytest.approx([hit.score for hit in hits])


def test_a_batch_that_finds_too_few_says_so(filled):
    found = filled.search_many(unit(1, 0)[None], k=5, access=BOARD)
    assert found.rows[0, 1:].tolist() == [-1] * 4
    assert (found.scores[0, 1:] == -np.inf).all()
    assert [p.document_id for p in found.passages(0)] == ["secret"]


def test_pages_lead_through_every_document_in_order(filled):
    filled.upsert(delta([(passage(key), unit(1, 0)) for key in ("aa", "z", "b")], removed=["c"]))
    pages, after = [], None
    while True:
        page = filled.scan(after=after, limit=2, access=None)
        pages.append([document.document_id for document in page.documents])
        if page.next is None:
            break
        after = page.next
    assert pages == [["a", "aa"], ["b", "secret"], ["z"]]


def test_a_page_shows_an_asker_only_their_passages(filled):
    page = filled.scan(after=None, limit=10, access=BOARD)
    assert [document.document_id for document in page.documents] == ["secret"]
    (stored,) = page.documents[0].passages
    assert stored.text == "text of secret"


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_out_of_bounds_is_refused(filled, limit):
    with pytest.raises(InvalidQuery, match=f"limit is {limit}"):
        filled.scan(after=None, limit=limit, access=None)


def test_a_change_before_the_first_publish_is_refused(index):
    with pytest.raises(IndexNotFound):
        index.upsert(delta([(passage("a"), unit(1, 0))]))
    with pytest.raises(IndexNotFound):
        index.flush()


def test_a_closed_index_takes_no_changes_but_still_answers(filled):
    filled.close()
    with pytest.raises(WriterClosed):
        filled.upsert(delta([(passage("d"), unit(1, 0))]))
    with pytest.raises(WriterClosed):
        filled.delete(["a"])
    assert ids(find(filled)) == ["a", "b", "c"]


def _broken(what):
    good = delta([(passage("z"), unit(1, 0)), (passage("y"), unit(1, 0))])
    vectors = good.vectors.copy()
    documents, passages = good.documents, good.passages
    match what:
        case "nan":
            vectors[1, 0] = np.nan
        case "infinity":
            vectors[0, 1] = -np.inf
        case "huge":
            vectors[0] = 3e38
        case "long":
            vectors[0] *= 2
        case "float64":
            vectors = vectors.astype(np.float64)
        case "dimension":
            vectors = np.eye(2, 3, dtype=np.float32)
        case "too few":
            vectors = vectors[:1]
        case "twice":
            documents = documents.take([0, 0])
        case "no owner":
            documents = documents.slice(0, 1)
        case "order":
            passages = passages.take([1, 0])
        case "columns":
            passages = passages.drop_columns(["metadata"])
        case "null":
            nulls = pa.nulls(documents.num_rows, pa.string())
            documents = documents.set_column(1, documents.schema.field(1), nulls)
    return type(good)(documents, passages, vectors, frozenset())


@pytest.mark.parametrize(
    "what",
    ["nan", "infinity", "huge", "long", "float64", "dimension", "too few", "twice", "no owner",
     "order", "columns", "null"],
)  # fmt: skip
def test_a_change_that_does_not_fit_is_refused_and_changes_nothing(filled, what):
    for take in (filled.upsert, lambda change: filled.publish(change, source(1))):
        with pytest.raises(InvalidDelta):
            take(_broken(what))
    assert ids(find(filled)) == ["a", "b", "c"]
    assert filled.version().number == 1


def test_scattered_passages_are_refused(filled):
    rows = [(passage(key, ordinal=o), unit(1, 0)) for key, o in (("y", 0), ("z", 0), ("y", 1))]
    with pytest.raises(InvalidDelta, match="grouped"):
        filled.upsert(delta(rows))


@pytest.mark.parametrize("bad", [1, None, b"a"])
def test_an_id_that_is_no_string_is_refused(filled, bad):
    with pytest.raises(InvalidDelta, match="document id"):
        filled.delete([bad])
