"""The typed filter tree, its JSON form, and the plain evaluator every other one is checked against.

JSON form: an object whose keys are metadata columns (all must hold) or `and`, `or`, `not`.

    {"kind": "function"}                          equal
    {"kind": ["function", "class"]}               one of
    {"views": {"gte": 10, "lt": 100}}             eq ne lt lte gt gte in not_in contains is_null
    {"or": [{"kind": "module"}, {"not": {"module": "asyncio"}}]}

A comparison with a missing (null) value is false, `is_null` apart; `not` inverts plainly, so
`{"not": {"kind": "module"}}` includes rows that have no kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, cast, get_args

from vector_index.errors import InvalidFilter
from vector_index.passages import MetadataType, MetadataValue

Operator = Literal["eq", "ne", "lt", "lte", "gt", "gte", "contains"]
MAX_NODES = 256

_OPERATORS = get_args(Operator)
_COMBINATORS = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class Compare:
    """`column operator value`; `contains` asks whether an array column holds `value`."""

    column: str
    operator: Operator
    value: MetadataValue


@dataclass(frozen=True, slots=True)
class In:
    """The column's value is one of `values`."""

    column: str
    values: tuple[MetadataValue, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """The column has no value."""

    column: str


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds; true when there is none."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Filter"


Filter = Compare | In | IsNull | And | Or | Not


def parse_filter(form: object, columns: Mapping[str, MetadataType]) -> Filter:
    """The filter tree of a JSON form, typed against the index's declared metadata columns.

    Raises InvalidFilter naming the column, operator or value at fault and what is allowed.
    """
    tree = _parse(form, columns, depth=0)
    if _size(tree) > MAX_NODES:
        raise InvalidFilter(f"filter has {_size(tree)} conditions; at most {MAX_NODES} are allowed")
    return tree


def matches(tree: Filter, metadata: Mapping[str, MetadataValue]) -> bool:
    """Whether one row's metadata satisfies the filter: the reference evaluator."""
    match tree:
        case And(parts):
            return all(matches(part, metadata) for part in parts)
        case Or(parts):
            return any(matches(part, metadata) for part in parts)
        case Not(part):
            return not matches(part, metadata)
        case IsNull(column):
            return metadata.get(column) is None
        case In(column, values):
            return metadata.get(column) is not None and metadata.get(column) in values
        case Compare(column, operator, value):
            return _holds(metadata.get(column), operator, value)


def _holds(left: MetadataValue, operator: Operator, right: MetadataValue) -> bool:
    if left is None:
        return False
    if operator == "contains":
        return right in cast(tuple[str, ...], left)
    if operator == "eq":
        return left == right
    if operator == "ne":
        return left != right
    ordered = cast(float, left)
    bound = cast(float, right)
    if operator == "lt":
        return ordered < bound
    if operator == "lte":
        return ordered <= bound
    if operator == "gt":
        return ordered > bound
    return ordered >= bound


def _parse(form: object, columns: Mapping[str, MetadataType], *, depth: int) -> Filter:
    if depth > 16:
        raise InvalidFilter("filter is nested deeper than 16 levels")
    if not isinstance(form, Mapping):
        raise InvalidFilter(f"a filter is a JSON object, got {form!r}")
    parts = [_parse_entry(key, value, columns, depth=depth) for key, value in form.items()]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _parse_entry(
    key: str, value: object, columns: Mapping[str, MetadataType], *, depth: int
) -> Filter:
    if key == "not":
        return Not(_parse(value, columns, depth=depth + 1))
    if key in _COMBINATORS:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise InvalidFilter(f"{key!r} takes a list of filters, got {value!r}")
        parts = tuple(_parse(part, columns, depth=depth + 1) for part in value)
        return And(parts) if key == "and" else Or(parts)
    if key not in columns:
        known = ", ".join(sorted(columns)) or "none"
        raise InvalidFilter(f"unknown filter column {key!r}; this index has: {known}")
    return _parse_condition(key, value, columns[key])


def _parse_condition(column: str, value: object, kind: MetadataType) -> Filter:
    if isinstance(value, Mapping):
        if not value:
            raise InvalidFilter(f"filter column {column!r} has an empty condition")
        parts = tuple(_parse_operator(column, op, operand, kind) for op, operand in value.items())
        return parts[0] if len(parts) == 1 else And(parts)
    if isinstance(value, list):
        return In(column, _typed_list(column, value, kind))
    if value is None:
        return IsNull(column)
    return Compare(column, "eq", _typed(column, value, kind))


def _parse_operator(column: str, operator: str, operand: object, kind: MetadataType) -> Filter:
    if operator == "is_null":
        if not isinstance(operand, bool):
            raise InvalidFilter(f"{column}.is_null takes true or false, got {operand!r}")
        return IsNull(column) if operand else Not(IsNull(column))
    if operator in ("in", "not_in"):
        if not isinstance(operand, list):
            raise InvalidFilter(f"{column}.{operator} takes a list, got {operand!r}")
        one_of = In(column, _typed_list(column, operand, kind))
        return one_of if operator == "in" else And((Not(IsNull(column)), Not(one_of)))
    if operator not in _OPERATORS:
        allowed = ", ".join((*_OPERATORS, "in", "not_in", "is_null"))
        raise InvalidFilter(f"unknown operator {operator!r} on {column!r}; allowed: {allowed}")
    _check_operator(column, operator, kind)
    element: MetadataType = "string" if operator == "contains" else kind
    return Compare(column, cast(Operator, operator), _typed(column, operand, element))


def _check_operator(column: str, operator: str, kind: MetadataType) -> None:
    if (operator == "contains") != (kind == "strings"):
        what = "an array" if kind == "strings" else f"a {kind}"
        hint = "use contains" if kind == "strings" else "contains is for array columns"
        raise InvalidFilter(f"operator {operator!r} does not fit {column!r}, {what} column; {hint}")
    if kind == "bool" and operator not in ("eq", "ne"):
        raise InvalidFilter(f"operator {operator!r} does not fit {column!r}, a bool column")


def _typed_list(
    column: str, values: Sequence[object], kind: MetadataType
) -> tuple[MetadataValue, ...]:
    return tuple(_typed(column, value, kind) for value in values)


def _typed(column: str, value: object, kind: MetadataType) -> MetadataValue:
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if kind == "float":
            return float(value)
        if kind == "int" and -(2**63) <= value < 2**63:
            return value
    if kind == "float" and isinstance(value, float) and value == value:
        return value
    if kind in ("timestamp", "date") and isinstance(value, str):
        return _typed_time(column, value, kind)
    raise InvalidFilter(f"filter column {column!r} is of type {kind}, got {value!r}")


def _typed_time(column: str, value: str, kind: MetadataType) -> datetime | date:
    try:
        if kind == "date":
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except ValueError as exc:
        raise InvalidFilter(
            f"filter column {column!r} is a {kind}, got {value!r}; write it as ISO 8601"
        ) from exc
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _size(tree: Filter) -> int:
    match tree:
        case And(parts) | Or(parts):
            return 1 + sum(_size(part) for part in parts)
        case Not(part):
            return 1 + _size(part)
        case In(_, values):
            return 1 + len(values)
        case _:
            return 1
