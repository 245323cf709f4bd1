"""Masks over rows: by hand, and against the plain evaluator on random filters and rows."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from vector_index.decoded import Numbers
from vector_index.errors import InvalidFilter
from vector_index.filter_tree import tokens
from vector_index.filters import And, Compare, In, IsNull, Not, Or, matches, parse_filter
from vector_index.masks import AccessColumns, Columns, access_mask
from vector_index.passages import ARROW_TYPES, Access

KINDS = {f"{kind}_column": kind for kind in ARROW_TYPES}
STRUCT = pa.struct([(name, ARROW_TYPES[kind]) for name, kind in KINDS.items()])


def struct(name, kind, values):
    return pa.StructArray.from_arrays([pa.array(values, ARROW_TYPES[kind])], names=[name])


def rows(columns, form, declared):
    return np.flatnonzero(columns.mask(parse_filter(form, declared))).tolist()


@pytest.mark.parametrize(
    ("kind", "values", "form", "expected"),
    [
        ("string", ["b", None, "a", "b", ""], "b", [0, 3]),
        ("string", ["b", None, "a", "b", ""], "nope", []),
        ("string", ["b", None, "a", "b", ""], {"ne": "b"}, [2, 4]),
        ("string", ["b", None, "a", "b", ""], {"lt": "b"}, [2, 4]),
        ("string", ["b", None, "a", "b", ""], {"lte": "a"}, [2, 4]),
        ("string", ["b", None, "a", "b", ""], {"gte": "b"}, [0, 3]),
        ("string", ["b", None, "a", "b", ""], ["a", "", "nope"], [2, 4]),
        ("string", ["b", None, "a", "b", ""], None, [1]),
        ("string", ["é", "z", "\U0001f600", "\uffff"], {"gt": "z"}, [0, 2, 3]),
        ("string", ["é", "z", "\U0001f600", "\uffff"], {"gt": "\uffff"}, [2]),
        ("string", ["A b", "b-a", "ab", None, "a", "A b"], {"like": "B a"}, [0, 1, 5]),
        ("string", [None, None], {"like": "a"}, []),
        ("int", [2**63 - 1, None, 0, -(2**63)], {"gt": 2**63 - 2}, [0]),
        ("int", [2**63 - 1, None, 0, -(2**63)], {"ne": 0}, [0, 3]),
        ("int", [2**63 - 1, None, 0, -(2**63)], [0, -(2**63)], [2, 3]),
        ("int", [2**53, 2**53 + 1], 2**53 + 1, [1]),
        ("float", [0.0, -0.0, None, float("nan"), float("inf")], 0, [0, 1]),
        ("float", [0.0, -0.0, None, float("nan"), float("inf")], {"ne": 0}, [3, 4]),
        ("float", [0.0, -0.0, None, float("nan"), float("inf")], {"gt": 1e308}, [4]),
        ("bool", [True, False, None, True], False, [1]),
        ("bool", [True, False, None, True], {"not_in": [False]}, [0, 3]),
        ("strings", [["x", "y"], [], None, ["x", "x", None]], {"contains": "x"}, [0, 3]),
        ("strings", [["x", "y"], [], None, ["x", "x", None]], {"contains_any": ["y", "z"]}, [0]),
        ("strings", [["x", "y"], [], None, ["x", "x", None]], {"contains_all": []}, [0, 1, 3]),
        ("strings", [["x", "y"], [], None, ["x", "x", None]], {"is_null": True}, [2]),
    ],
)  # fmt: skip
def test_a_condition_marks_exactly_these_rows(kind, values, form, expected):
    assert rows(Columns(struct("c", kind, values)), {"c": form}, {"c": kind}) == expected


def test_times_are_compared_to_the_microsecond_and_dates_to_the_day():
    columns = Columns(
        pa.StructArray.from_arrays(
            [
                pa.array(
                    [datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), None, datetime.max],
                    ARROW_TYPES["timestamp"],
                ),
                pa.array([date(1969, 12, 31), date.min, None], ARROW_TYPES["date"]),
            ],
            names=["at", "day"],
        )
    )
    declared = {"at": "timestamp", "day": "date"}
    assert rows(columns, {"at": {"lt": "1970-01-01T00:00:00Z"}}, declared) == [0]
    assert rows(columns, {"at": "9999-12-31T23:59:59.999999Z"}, declared) == [2]
    assert rows(columns, {"day": {"lte": "0001-01-01"}}, declared) == [1]
    assert rows(columns, {"day": "1969-12-31"}, declared) == [0]


def test_slices_chunks_and_missing_structs_are_read_as_the_rows_they_are():
    values = [{"c": "a", "n": 1}, {"c": "b", "n": 2}, None, {"c": None, "n": 3}, {"c": "b", "n": 4}]
    whole = pa.array(values, pa.struct([("c", pa.string()), ("n", pa.int64())]))
    declared = {"c": "string", "n": "int"}
    columns = Columns(pa.chunked_array([whole.slice(1, 2), whole.slice(3)]))
    assert rows(columns, {"c": "b"}, declared) == [0, 3]
    assert rows(columns, {"c": None}, declared) == [1, 2]
    assert rows(columns, {"n": {"gte": 2}}, declared) == [0, 2, 3]
    assert rows(columns, {"n": None}, declared) == [1]
    assert rows(Columns(whole.slice(3)), {"n": {"gte": 4}}, declared) == [1]
    assert rows(Columns(whole.slice(3)), {"c": "b"}, declared) == [1]
    assert rows(Columns(pa.chunked_array([], whole.type)), {"c": {"like": "b"}}, declared) == []


def test_a_value_hidden_under_a_null_is_not_found():
    hidden = pa.ListArray.from_arrays(
        pa.array([0, 2, 3], pa.int32()), pa.array(["x", "y", "z"]), mask=pa.array([True, False])
    )
    columns = Columns(pa.StructArray.from_arrays([hidden], names=["tags"]))
    declared = {"tags": "strings"}
    assert rows(columns, {"tags": {"contains": "x"}}, declared) == []
    assert rows(columns, {"tags": {"contains": "z"}}, declared) == [1]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string()])
def test_both_widths_of_arrow_strings_answer_alike(kind):
    table = pa.table(
        {"c": pa.array(["a b", None], kind), "l": pa.array([["a"], []], pa.list_(kind))}
    )
    columns = Columns(table.to_struct_array())
    declared = {"c": "string", "l": "strings"}
    for form in ({"c": "a b"}, {"c": ["a b"]}, {"c": {"like": "b"}}, {"l": {"contains": "a"}}):
        assert rows(columns, form, declared) == [0]


def test_an_array_column_may_hold_more_distinct_strings_than_sixteen_bits_count():
    columns = Columns(struct("tags", "strings", [[f"tag {n}"] for n in range(70_000)]))
    for row in (0, 32_767, 32_768, 65_536, 69_999):
        where = Compare("tags", "contains", f"tag {row}")
        assert np.flatnonzero(columns.mask(where)).tolist() == [row]


def test_numbers_are_views_of_arrows_memory_even_where_some_are_null():
    column = pa.array([1, None, 3], pa.int64())
    seen = Numbers(column)._values
    assert seen.__array_interface__["data"][0] == column.buffers()[1].address


def test_no_conditions_hold_for_every_row_and_no_alternatives_for_none():
    columns = Columns(struct("c", "int", [1, None]))
    assert columns.mask(And(())).tolist() == [True, True]
    assert columns.mask(Or(())).tolist() == [False, False]


def test_a_mask_is_the_callers_to_change():
    columns = Columns(struct("c", "int", [1, None]))
    for where in (IsNull("c"), Compare("c", "eq", 1), Not(IsNull("c")), And(()), Or(())):
        before = columns.mask(where)
        kept = before.copy()
        before[:] = ~before
        assert columns.mask(where).tolist() == kept.tolist()


def test_an_unknown_column_or_type_is_refused_by_name():
    with pytest.raises(InvalidFilter, match="unknown filter column 'd'; this segment has: c"):
        Columns(struct("c", "int", [1])).mask(IsNull("d"))
    table = pa.table({"c": pa.array([b"x"])})
    with pytest.raises(InvalidFilter, match="Arrow type binary cannot be filtered"):
        Columns(table.to_struct_array()).mask(IsNull("c"))


def test_many_threads_may_ask_a_new_segment_at_once():
    values = [f"word{number % 97} tail" for number in range(20_000)]
    expected = [text.startswith("word5 ") for text in values]
    where = Compare("c", "like", "WORD5")
    for _ in range(5):
        columns = Columns(struct("c", "string", values))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(columns.mask, [where] * 16))
        assert all(answer.tolist() == expected for answer in answers)


TENANTS = pa.array(["acme", "acme", "other", None, "acme", "acme"])
GROUPS = pa.array([["staff"], ["board", "staff"], ["staff"], ["staff"], [], None])


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (Access("acme", frozenset({"staff"})), [0, 1]),
        (Access("acme", frozenset({"board", "nobody"})), [1]),
        (Access("other", frozenset({"staff", "board"})), [2]),
        (Access("acme", frozenset()), []),
        (Access("", frozenset({"staff", ""})), []),
    ],
)
def test_a_row_is_visible_to_its_tenant_and_groups_and_to_nobody_where_it_has_none(
    access, expected
):
    assert np.flatnonzero(access_mask(access, TENANTS, GROUPS, 6)).tolist() == expected
    chunked = AccessColumns(
        pa.chunked_array([TENANTS.slice(0, 3), TENANTS.slice(3)]),
        pa.chunked_array([GROUPS.slice(0, 2), GROUPS.slice(2)]),
        6,
    )
    assert np.flatnonzero(chunked.mask(access)).tolist() == expected


def test_a_column_that_the_index_lacks_restricts_nobody():
    board = Access("acme", frozenset({"board"}))
    assert np.flatnonzero(access_mask(board, TENANTS, None, 6)).tolist() == [0, 1, 4, 5]
    assert np.flatnonzero(access_mask(board, None, GROUPS, 6)).tolist() == [1]
    assert access_mask(board, None, None, 6).tolist() == [True] * 6


# Few distinct values, so that filters hit rows; the rest reaches the corners of each type.
_TEXT = st.sampled_from(
    ["", "a", "A b", "b-a", "straße", "STRASSE", "é", "東京 a", "\U0001f600"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_INTS = st.sampled_from([-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1]) | st.integers(-3, 3)
_FLOATS = st.sampled_from([0.0, -0.0, 0.1, 5e-324, 1.7e308]) | st.floats(
    allow_nan=False, allow_infinity=False
)
_TIMES = st.sampled_from([datetime(1970, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)]) | (
    st.datetimes(timezones=st.just(UTC))
)
_VALUES = {
    "string": _TEXT,
    "int": _INTS,
    "float": _FLOATS,
    "bool": st.booleans(),
    "timestamp": _TIMES,
    "date": st.sampled_from([date(1970, 1, 1), date.max]) | st.dates(),
    "strings": st.lists(_TEXT, max_size=3).map(tuple),
}
_STORED = _VALUES | {
    "float": _FLOATS | st.sampled_from([float("nan"), float("inf"), float("-inf")])
}
_ROWS = st.lists(
    st.none()
    | st.fixed_dictionaries({name: st.none() | _STORED[kind] for name, kind in KINDS.items()}),
    min_size=1,
    max_size=12,
)


@st.composite
def leaves(draw, stored):
    """A condition; half of its operands are values of the rows, so that bounds are met exactly."""
    name = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[name]
    shape = draw(st.integers(0, 9))
    if shape == 0:
        return IsNull(name)
    operands = _operands(name, kind, stored)
    if kind == "strings":
        return Compare(name, "contains", draw(operands))
    if shape < 3:
        return In(name, tuple(draw(st.lists(operands, max_size=4))))
    if kind == "string" and shape < 5:
        return Compare(name, "like", draw(operands.filter(tokens)))
    names = ["eq", "ne"] if kind == "bool" else ["eq", "ne", "lt", "lte", "gt", "gte"]
    return Compare(name, draw(st.sampled_from(names)), draw(operands))


def _operands(name, kind, stored):
    present = [row[name] for row in stored if row is not None and row[name] is not None]
    if kind == "strings":
        present = [element for array in present for element in array]
    if kind == "float":
        present = [value for value in present if np.isfinite(value)]
    fresh = _VALUES["string" if kind == "strings" else kind]
    return st.sampled_from(present) | fresh if present else fresh


def trees(stored):
    """Three conditions or more: the empty `and` and `or` would crowd them, and are tested above."""
    leaf = leaves(stored)
    deep = st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3).map(tuple).map(And)
            | st.lists(inner, min_size=1, max_size=3).map(tuple).map(Or)
            | inner.map(Not)
        ),
        max_leaves=5,
    )
    return st.builds(lambda kind, *parts: kind(parts), st.sampled_from([And, Or]), leaf, leaf, deep)


def subtrees(tree):
    """The tree and everything in it: a wrong mask must not hide behind its neighbours."""
    yield tree
    parts = (
        tree.parts if isinstance(tree, And | Or) else [tree.part] if isinstance(tree, Not) else []
    )
    for part in parts:
        yield from subtrees(part)


def written(tree):
    """The JSON form of a tree."""
    match tree:
        case And(parts):
            return {"and": [written(part) for part in parts]}
        case Or(parts):
            return {"or": [written(part) for part in parts]}
        case Not(part):
            return {"not": written(part)}
        case IsNull(column):
            return {column: {"is_null": True}}
        case In(column, values):
            return {column: {"in": [_written_value(value) for value in values]}}
        case Compare(column, name, value):
            return {column: {name: _written_value(value)}}


def _written_value(value):
    return value.isoformat() if isinstance(value, date) else value


@settings(max_examples=1000, deadline=None)
@given(data=st.data(), stored=_ROWS)
def test_a_random_filter_written_read_and_evaluated_in_bulk_equals_the_plain_evaluator(
    data, stored
):
    tree = data.draw(trees(stored))
    cut = data.draw(st.integers(0, len(stored)))
    array = pa.array(stored, STRUCT)
    read = parse_filter(json.loads(json.dumps(written(tree))), KINDS)
    assert read == tree
    chunked = Columns(pa.chunked_array([array.slice(0, cut), array.slice(cut)]))
    sliced = Columns(array.slice(cut))
    for part in subtrees(read):
        expected = [matches(part, row or {}) for row in stored]
        assert chunked.mask(part).tolist() == expected
        assert sliced.mask(part).tolist() == expected[cut:]


@settings(max_examples=300, deadline=None)
@given(
    stored=st.lists(
        st.tuples(st.none() | _TEXT, st.none() | st.lists(st.none() | _TEXT, max_size=4))
    ),
    tenant=_TEXT,
    groups=st.frozensets(_TEXT, max_size=4),
)
def test_random_access_equals_the_rule_row_by_row(stored, tenant, groups):
    tenants = pa.array([row[0] for row in stored], pa.string())
    allowed = pa.array([row[1] for row in stored], pa.list_(pa.string()))
    seen = access_mask(Access(tenant, groups), tenants, allowed, len(stored))
    expected = [
        owner is not None and owner == tenant and not groups.isdisjoint(held or ())
        for owner, held in stored
    ]
    assert seen.tolist() == expected
