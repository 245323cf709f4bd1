"""From a filter's JSON form to its tree, typed against the index's declared metadata columns."""

import math
import reprlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import cast

from vector_index.errors import InvalidFilter
from vector_index.filter_tree import And, Compare, Filter, In, IsNull, Not, Operator, Or, tokens
from vector_index.passages import MetadataType, MetadataValue

MAX_NODES = 256
MAX_DEPTH = 16

_EQUALITY = ("eq", "ne", "in", "not_in", "is_null")
_ORDER = ("lt", "lte", "gt", "gte")
OPERATORS: Mapping[MetadataType, tuple[str, ...]] = {
    "string": (*_EQUALITY, *_ORDER, "like"),
    "int": (*_EQUALITY, *_ORDER),
    "float": (*_EQUALITY, *_ORDER),
    "timestamp": (*_EQUALITY, *_ORDER),
    "date": (*_EQUALITY, *_ORDER),
    "bool": _EQUALITY,
    "strings": ("contains", "contains_any", "contains_all", "is_null"),
}


def parse_filter(form: object, columns: Mapping[str, MetadataType]) -> Filter:
    """The filter tree of a JSON form; the form is described in `vector_index.filters`.

    Raises InvalidFilter, and nothing else, naming the column, operator or value at fault and
    what is allowed.
    """
    tree = _parse(form, columns, depth=0)
    if _size(tree) > MAX_NODES:
        raise InvalidFilter(f"filter has {_size(tree)} conditions; at most {MAX_NODES} are allowed")
    return tree


def _parse(form: object, columns: Mapping[str, MetadataType], *, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"filter is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(form, Mapping):
        raise InvalidFilter(f"a filter is a JSON object, got {_shown(form)}")
    return _all_of([_parse_entry(key, form[key], columns, depth=depth) for key in form])


def _parse_entry(
    key: str, value: object, columns: Mapping[str, MetadataType], *, depth: int
) -> Filter:
    if key == "not":
        return Not(_parse(value, columns, depth=depth + 1))
    if key in ("and", "or"):
        forms = _list(value, f"{key!r} takes a list of filters")
        parts = tuple(_parse(part, columns, depth=depth + 1) for part in forms)
        return And(parts) if key == "and" else Or(parts)
    if key not in columns:
        known = ", ".join(sorted(columns)) or "none"
        raise InvalidFilter(f"unknown filter column {_shown(key)}; this index has: {known}")
    return _parse_condition(key, value, columns[key])


def _parse_condition(column: str, value: object, kind: MetadataType) -> Filter:
    if isinstance(value, Mapping):
        if not value:
            raise InvalidFilter(f"filter column {column!r} has an empty condition")
        return _all_of([_parse_operator(column, name, value[name], kind) for name in value])
    if value is None:
        return IsNull(column)
    name = "in" if isinstance(value, list | tuple) else "eq"
    return _parse_operator(column, name, value, kind)


def _parse_operator(column: str, name: str, operand: object, kind: MetadataType) -> Filter:
    if name not in OPERATORS[kind]:
        raise InvalidFilter(
            f"operator {_shown(name)} does not fit {column!r}, a column of type {kind}; "
            f"allowed: {', '.join(OPERATORS[kind])}"
        )
    if name == "is_null":
        if not isinstance(operand, bool):
            raise InvalidFilter(f"{column}.is_null takes true or false, got {_shown(operand)}")
        return IsNull(column) if operand else Not(IsNull(column))
    if name in ("in", "not_in", "contains_any", "contains_all"):
        return _parse_membership(column, name, operand, kind)
    value = _typed(column, operand, "string" if kind == "strings" else kind)
    if name == "like" and not tokens(cast(str, value)):
        raise InvalidFilter(f"{column}.like needs a word to look for, got {_shown(operand)}")
    return Compare(column, cast(Operator, name), value)


def _parse_membership(column: str, name: str, operand: object, kind: MetadataType) -> Filter:
    listed = _list(operand, f"{column}.{name} takes a list")
    element: MetadataType = "string" if kind == "strings" else kind
    values = tuple(_typed(column, value, element) for value in listed)
    if name == "in":
        return In(column, values)
    if name == "not_in":
        return And((Not(IsNull(column)), Not(In(column, values))))
    held = tuple(Compare(column, "contains", value) for value in values)
    return Or(held) if name == "contains_any" else And((Not(IsNull(column)), *held))


def _typed(column: str, value: object, kind: MetadataType) -> MetadataValue:
    if kind == "string" and isinstance(value, str):
        return _text(column, value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind in ("timestamp", "date") and isinstance(value, str):
        return _timestamp(column, value) if kind == "timestamp" else _date(column, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind == "float":
            return _finite(column, value)
        if kind == "int" and isinstance(value, int):
            return _int64(column, value)
    hint = "; test for null with is_null" if value is None else ""
    raise InvalidFilter(f"filter column {column!r} is of type {kind}, got {_shown(value)}{hint}")


def _text(column: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidFilter(
            f"filter column {column!r} got {value[exc.start : exc.start + 1]!r}, half of a "
            "surrogate pair, which no stored text can hold"
        ) from exc
    return value


def _int64(column: str, value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise InvalidFilter(
            f"filter column {column!r} holds 64-bit integers; {_shown(value)} is out of range"
        )
    return value


def _finite(column: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidFilter(
            f"filter column {column!r} compares with finite numbers, got {_shown(value)}"
        )
    return number


def _timestamp(column: str, value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidFilter(
            f"filter column {column!r} is a timestamp, got {_shown(value)}; write it as ISO 8601, "
            "such as 2026-11-24T09:30:00Z"
        ) from exc
    raise InvalidFilter(
        f"filter column {column!r} got {_shown(value)}, a time in no time zone; end it with Z "
        "or an offset such as +02:00"
    )


def _date(column: str, value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError as exc:
        raise InvalidFilter(
            f"filter column {column!r} is a date, got {_shown(value)}; write it as 2026-11-24"
        ) from exc


def _list(value: object, rule: str) -> list[object] | tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidFilter(f"{rule}, got {_shown(value)}")
    return value


def _all_of(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _shown(value: object) -> str:
    """A value for a message: short, however long or deep what the caller sent is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return "an integer of thousands of digits"


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
