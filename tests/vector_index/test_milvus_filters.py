"""Milvus' expressions against the plain evaluator, and strings that try to get out of them."""

import dataclasses
import math
from datetime import UTC, date, datetime

import by_hand
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from milvus_lite.server_manager import server_manager_instance

from vector_index.filters import And, Compare, In, IsNull, Not, Or, matches
from vector_index.milvus import MilvusIndex, MilvusPlace
from vector_index.milvus.expressions import NEVER, necessary, qualifying, quoted
from vector_index.milvus.names import collections_of, value_field
from vector_index.milvus.store import Store
from vector_index.passages import DOCUMENT_SCHEMA, Access, IndexDelta, Passage, passages_to_table

COLUMNS = {
    "kind": "string", "file name": "string", "views": "int", "score": "float", "live": "bool",
    "at": "timestamp", "day": "date", "tags": "strings",
}  # fmt: skip
NASTY = [
    "", "a", "A", "csv reader", "CSV_reader 2x", "é", "東京 tower", '"', "'", "\\", '\\"', "\\\\",
    '" or since >= 0 or "" == "', "') or since >= 0 #", "a\nb", "a\rb", "a\tb", "a\x00b",
    "\x07\x1b", "{p}", "%", "_", "null", "\u2028", "\U0001f600", "\\n", "\\x22",
]  # fmt: skip
INTS = [-(2**63), -(2**63) + 1, -1, 0, 1, 7, 2**53 + 1, 2**63 - 1]
FLOATS = [-math.inf, -1.5, -0.0, 0.0, 5e-324, 1e-7, 0.1, 2.0, 1e300, math.inf, math.nan]
MOMENTS = [
    datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    datetime(2026, 11, 24, 9, 30, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC),
]  # fmt: skip
DAYS = [date(1, 1, 1), date(1970, 1, 1), date(2026, 11, 24), date(9999, 12, 31)]
MANY = [str(number) for number in range(4100)]
TAGS = [(), ("x",), ("x", "y", "x"), ("",), ('"',), tuple(NASTY[5:20]), tuple(MANY)]
VALUES = {
    "kind": [*NASTY, " ".join(MANY)], "file name": NASTY, "views": INTS, "score": FLOATS,
    "live": [True, False], "at": MOMENTS, "day": DAYS, "tags": TAGS,
}  # fmt: skip
EVERYONE = Access("acme", frozenset({"staff"}))


def made_settings():
    return dataclasses.replace(by_hand.settings(), metadata_columns=COLUMNS)


def made_delta(passages):
    documents = [{"document_id": p.document_id, "document_hash": "h"} for p in passages]
    return IndexDelta(
        pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA),
        passages_to_table(passages, COLUMNS),
        np.tile(np.array([1, 0], np.float32), (len(passages), 1)),
        frozenset(),
    )


def made_passage(key, metadata, tenant="acme", groups=("staff",)):
    return Passage(key, 0, key, "text", 0, 4, "h", tenant, groups, None, metadata)


def rows():
    """Every value at least once, next to others, and nulls in between."""
    made = {}
    for number in range(90):
        made[f"d{number}"] = {
            column: None if (number + place) % 7 == 0 else values[number % len(values)]
            for place, (column, values) in enumerate(VALUES.items())
        }
    return made


ROWS = rows()
# Rows with a value that Milvus cannot hold.
BEYOND = {
    key
    for key, row in ROWS.items()
    if (row["score"] is not None and not math.isfinite(row["score"]))
    or row["kind"] == " ".join(MANY)
    or row["tags"] == tuple(MANY)
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    place = MilvusPlace(str(tmp_path_factory.mktemp("milvus") / "milvus.db"))
    index = MilvusIndex(place, made_settings())
    index.publish(
        made_delta([made_passage(key, row) for key, row in ROWS.items()]), by_hand.source()
    )
    yield index, Store(place)
    server_manager_instance.release_server(place.uri)


def operands(column):
    kept = [v for v in VALUES[column] if not (isinstance(v, float) and not math.isfinite(v))]
    return st.sampled_from(kept)


@st.composite
def leaves(draw):
    column = draw(st.sampled_from(list(COLUMNS)))
    kind = COLUMNS[column]
    if draw(st.integers(0, 5)) == 0:
        return IsNull(column)
    if kind == "strings":
        return Compare(column, "contains", draw(st.sampled_from([*NASTY, "x", "y", "1", "4099"])))
    if draw(st.booleans()):
        return In(column, tuple(draw(st.lists(operands(column), max_size=4))))
    names = ["eq", "ne"]
    if kind != "bool":
        names += ["lt", "lte", "gt", "gte"]
    if kind == "string":
        names += ["like", "like"]
    name = draw(st.sampled_from(names))
    value = draw(operands(column))
    if name == "like":
        value = draw(st.sampled_from(["csv", "CSV reader", "2x csv_READER", "東京", "4099", "a b"]))
    return Compare(column, name, value)


TREES = st.recursive(
    leaves(),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts)))
        | st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=6,
)


def ids(result):
    return {hit.passage.document_id for hit in result.hits}


def expected(tree):
    return {key for key, row in ROWS.items() if matches(tree, row)}


def has_smallest_int(tree):
    return str(-(2**63)) in repr(tree)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=TREES)
@example(tree=Not(Compare("score", "lte", 1e300)))
@example(tree=Compare("views", "eq", -(2**63)))
@example(tree=Not(In("views", ())))
@example(tree=Compare("tags", "contains", "4099"))
@example(tree=Not(Compare("kind", "like", "4099")))
def test_a_search_finds_exactly_the_rows_that_the_plain_evaluator_accepts(filled, tree):
    index, store = filled
    found = index.search(by_hand.unit(1, 0), k=1000, access=EVERYONE, where=tree)
    assert ids(found) == expected(tree)
    if not has_smallest_int(tree):
        # What comes back too much is discarded, so without this ALWAYS would pass as well.
        name = collections_of("docs").passages
        by_milvus = store.scan(name, necessary(tree, COLUMNS), ["document_id", "loose"])
        tight = {row["document_id"] for row in by_milvus if not row["loose"]}
        assert tight == expected(tree) - BEYOND


def test_only_rows_that_milvus_cannot_hold_are_loose(filled):
    _, store = filled
    found = store.scan(collections_of("docs").passages, "loose == true", ["document_id"])
    assert {row["document_id"] for row in found} == BEYOND
    assert len(BEYOND) < len(ROWS) / 2


def test_metadata_comes_back_as_it_was_given(filled):
    index, _ = filled
    found = index.search(by_hand.unit(1, 0), k=1000, access=EVERYONE)
    assert {h.passage.document_id: repr(h.passage.metadata) for h in found.hits} == {
        key: repr(row) for key, row in ROWS.items()
    }


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(NASTY))
def test_no_string_gets_out_of_its_literal(filled, value):
    _, store = filled
    field = value_field("kind")
    name = collections_of("docs").passages
    same = sum(row["kind"] == value for row in ROWS.values())
    other = sum(row["kind"] not in (value, None) for row in ROWS.values())
    assert store.count(name, f"{field} == {quoted(value)}") == same
    assert store.count(name, f"{field} != {quoted(value)}") == other
    assert store.count(name, f"{field} == {quoted(value)} and {NEVER}") == 0


@pytest.mark.parametrize("tenant", NASTY)
def test_a_tenant_or_group_is_only_ever_compared(milvus_place, tenant):
    index = MilvusIndex(milvus_place, made_settings())
    index.publish(
        made_delta(
            [
                made_passage("own", {}, tenant=tenant, groups=(tenant,)),
                made_passage("theirs", {}, tenant="t", groups=("g",)),
                made_passage("other group", {}, tenant=tenant, groups=("g",)),
            ]
        ),
        by_hand.source(),
    )
    access = Access(tenant, frozenset({tenant}))
    assert ids(index.search(by_hand.unit(1, 0), k=10, access=access)) == {"own"}
    # The expression alone, before anything is checked again.
    expression = qualifying(1, access, None, made_settings())
    assert Store(milvus_place).count(collections_of("docs").passages, expression) == 1
    foreign = qualifying(1, Access("t", frozenset({tenant})), None, made_settings())
    assert Store(milvus_place).count(collections_of("docs").passages, foreign) == 0


@pytest.mark.parametrize("document_id", NASTY)
def test_a_document_id_may_hold_anything(milvus_place, document_id):
    index = MilvusIndex(milvus_place, made_settings())
    two = [made_passage(document_id, {}), made_passage("zz", {})]
    index.publish(made_delta(two), by_hand.source())
    index.publish(made_delta(two[:1]), by_hand.source(1))
    assert index.documents() == {document_id: "h", "zz": "h"}
    page = index.scan(after=document_id, limit=10, access=None)
    rest = sorted({"zz"} if document_id < "zz" else ())
    assert [document.document_id for document in page.documents] == rest
    index.delete([document_id])
    assert index.documents() == {"zz": "h"}
