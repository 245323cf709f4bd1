"""The filter language: what a form means for one row, and which forms are refused."""

import json
from datetime import UTC, date, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from vector_index.errors import InvalidFilter
from vector_index.filter_tree import tokens
from vector_index.filters import And, Compare, In, IsNull, Not, Or, matches, parse_filter

COLUMNS = {
    "kind": "string",
    "views": "int",
    "score": "float",
    "live": "bool",
    "at": "timestamp",
    "day": "date",
    "tags": "strings",
}
ROW = {
    "kind": "Reads CSV_files, naïvely: 2x",
    "views": 10,
    "score": -0.0,
    "live": False,
    "at": datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
    "day": date(2026, 11, 24),
    "tags": ("x", "y", "x"),
}
EMPTY = dict.fromkeys(COLUMNS)


def holds(form, row=ROW):
    return matches(parse_filter(form, COLUMNS), row)


@pytest.mark.parametrize(
    "form",
    [
        {"views": 10},
        {"views": [9, 10]},
        {"views": {"gte": 10, "lte": 10, "gt": 9, "lt": 11}},
        {"views": {"not_in": [9]}},
        {"score": 0},
        {"live": False},
        {"live": {"ne": True}},
        {"at": "2026-11-24T10:30:00+01:00"},
        {"at": {"lt": "2026-11-24T09:30:00.000001Z"}},
        {"day": {"gte": "2026-11-24"}},
        {"kind": {"gt": "READS", "lt": "Reads D"}},
        {"tags": {"contains": "x"}},
        {"tags": {"contains_any": ["nope", "y"]}},
        {"tags": {"contains_all": ["y", "x"]}},
        {"tags": {"contains_all": []}},
        {"tags": {"is_null": False}},
        {"and": [{"views": 10}, {"live": False}]},
        {"or": [{"views": 9}, {"live": False}]},
        {"not": {"or": []}},
        {},
    ],
)
def test_a_row_satisfies(form):
    assert holds(form)


@pytest.mark.parametrize(
    "form",
    [
        {"views": 11},
        {"views": {"gte": 10, "lt": 10}},
        {"views": []},
        {"views": None},
        {"kind": "reads csv_files, naïvely: 2x"},
        {"day": {"gt": "2026-11-24"}},
        {"tags": {"contains": "X"}},
        {"tags": {"contains_any": []}},
        {"tags": {"contains_all": ["x", "nope"]}},
        {"or": []},
        {"not": {}},
    ],
)
def test_a_row_does_not_satisfy(form):
    assert not holds(form)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("csv_files", True),
        ("CSV_FILES reads", True),
        ("NAÏVELY", True),
        ("2X", True),
        ("2x reads naïvely csv_files", True),
        ("csv", False),
        ("files", False),
        ("naive", False),
        ("reads json", False),
    ],
)
def test_like_wants_every_token_of_the_operand_whole_in_any_order_and_case(wanted, expected):
    assert holds({"kind": {"like": wanted}}) is expected


def test_tokens_are_runs_of_letters_digits_and_underscore_in_any_script():
    assert tokens("os.path_join(Straße, 東京-2)") == {"os", "path_join", "strasse", "東京", "2"}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_value_satisfies_is_null_and_inversions_alone(column):
    operand = {
        "string": "x", "int": 1, "float": 1.5, "bool": True, "timestamp": "2026-01-01T00:00Z",
        "date": "2026-01-01", "strings": "x",
    }[COLUMNS[column]]  # fmt: skip
    name = "contains" if column == "tags" else "ne"
    assert not holds({column: {name: operand}}, EMPTY)
    assert holds({"not": {column: {name: operand}}}, EMPTY)
    assert holds({column: None}, EMPTY)
    assert not holds({column: {"is_null": False}}, EMPTY)


def test_negative_forms_of_membership_leave_missing_values_out():
    assert not holds({"views": {"not_in": [1]}}, EMPTY)
    assert not holds({"tags": {"contains_all": []}}, EMPTY)
    assert holds({"not": {"views": [1]}}, EMPTY)


def test_a_form_becomes_this_tree():
    form = {
        "kind": ["a", "b"],
        "views": {"gte": 1, "ne": 5},
        "not": {"tags": {"contains": "x"}},
        "or": [{"score": 2}, {"day": None}],
    }
    assert parse_filter(form, COLUMNS) == And(
        (
            In("kind", ("a", "b")),
            And((Compare("views", "gte", 1), Compare("views", "ne", 5))),
            Not(Compare("tags", "contains", "x")),
            Or((Compare("score", "eq", 2.0), IsNull("day"))),
        )
    )


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ([], "a filter is a JSON object, got []"),
        ({"nope": 1}, "unknown filter column 'nope'; this index has: at, day, kind, live"),
        ({"or": {"views": 1}}, "'or' takes a list of filters, got {'views': 1}"),
        ({"views": {}}, "filter column 'views' has an empty condition"),
        ({"views": {"between": 1}}, "operator 'between' does not fit 'views', a column of"),
        ({"views": {"like": "1"}}, "operator 'like' does not fit 'views'"),
        ({"live": {"gt": True}}, "allowed: eq, ne, in, not_in, is_null"),
        ({"tags": "x"}, "operator 'eq' does not fit 'tags', a column of type strings; allowed: "),
        ({"tags": ["x"]}, "operator 'in' does not fit 'tags'"),
        ({"tags": {"contains": 3}}, "'tags' is of type string, got 3"),
        ({"tags": {"contains_any": "x"}}, "tags.contains_any takes a list, got 'x'"),
        ({"kind": {"contains": "x"}}, "operator 'contains' does not fit 'kind'"),
        ({"kind": {"like": " .,"}}, "kind.like needs a word to look for, got ' .,'"),
        ({"kind": "\ud800"}, r"'kind' got '\ud800', half of a surrogate pair"),
        ({"kind": {"eq": None}}, "got None; test for null with is_null"),
        ({"views": {"in": 3}}, "views.in takes a list, got 3"),
        ({"views": {"is_null": 1}}, "views.is_null takes true or false, got 1"),
        ({"views": True}, "'views' is of type int, got True"),
        ({"views": 1.0}, "'views' is of type int, got 1.0"),
        ({"views": 2**63}, "64-bit integers; 9223372036854775808 is out of range"),
        ({"views": -(2**63) - 1}, "is out of range"),
        ({"views": 10**5000}, "an integer of thousands of digits is out of range"),
        ({"score": float("nan")}, "'score' compares with finite numbers, got nan"),
        ({"score": [float("-inf")]}, "'score' compares with finite numbers, got -inf"),
        ({"score": 10**400}, "'score' compares with finite numbers, got 1000"),
        ({"score": "1"}, "'score' is of type float, got '1'"),
        ({"live": 1}, "'live' is of type bool, got 1"),
        ({"at": "2026-11-24T09:30:00"}, "a time in no time zone; end it with Z"),
        ({"at": "2026-11-24"}, "a time in no time zone"),
        ({"at": "yesterday"}, "'at' is a timestamp, got 'yesterday'; write it as ISO 8601"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "'at' is a timestamp, got '0001"),
        ({"at": 1700000000}, "'at' is of type timestamp, got 1700000000"),
        ({"day": "2026-02-30"}, "'day' is a date, got '2026-02-30'; write it as 2026-11-24"),
        ({"day": "2026-02-03T00:00:00Z"}, "'day' is a date"),
        ({"views": list(range(256))}, "filter has 257 conditions; at most 256 are allowed"),
        ({"or": [{}] * 256}, "filter has 257 conditions"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_answered_is_refused_saying_why(form, says):
    with pytest.raises(InvalidFilter) as refused:
        parse_filter(form, COLUMNS)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 300


def test_the_limits_themselves_are_allowed():
    assert holds({"views": [10, *range(100, 354)]})
    assert holds({"views": {"gte": -(2**63), "lte": 2**63 - 1}})
    assert holds(_nested(16))


def test_a_filter_nested_deeper_than_sixteen_levels_is_refused():
    with pytest.raises(InvalidFilter, match="nested deeper than 16 levels"):
        parse_filter(_nested(18), COLUMNS)


def _nested(levels):
    form = {"views": 10}
    for _ in range(levels):
        form = {"not": form}
    return form


# Words of the language are likely, so that forms get past the first check.
_WORDS = [*COLUMNS, "and", "or", "not", "eq", "gte", "in", "contains_any", "like", "is_null"]
_STRINGS = st.text(st.characters(), max_size=8) | st.datetimes().map(datetime.isoformat)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _STRINGS | st.sampled_from(_WORDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_WORDS) | _STRINGS, inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=1000, deadline=None)
@given(_JSON | st.dictionaries(st.sampled_from(_WORDS), _JSON, min_size=1, max_size=3))
@example({"at": "9999-12-31T23:59:59-14:00"})
def test_any_json_is_a_filter_or_an_invalid_filter(form):
    form = json.loads(json.dumps(form))
    try:
        tree = parse_filter(form, COLUMNS)
    except InvalidFilter:
        return
    assert matches(tree, ROW) in (True, False)
