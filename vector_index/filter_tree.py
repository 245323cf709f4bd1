"""The typed filter tree and its plain evaluator, against which every faster one is checked."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from vector_index.passages import MetadataValue

Operator = Literal["eq", "ne", "lt", "lte", "gt", "gte", "contains", "like"]

_TOKEN = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Compare:
    """`column operator value`.

    `contains`: the array column holds `value`. `like`: every token of `value` is a token of the
    column's string, in any order (see `tokens`).
    """

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


def tokens(text: str) -> frozenset[str]:
    """The distinct tokens of a text: maximal runs of letters, digits and underscore, case-folded.

    Letters of every script count. Nothing is stemmed and no accents are dropped.
    """
    return frozenset(token.casefold() for token in _TOKEN.findall(text))


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
        case Compare(column, name, value):
            present = metadata.get(column)
            return present is not None and _HOLDS[name](present, value)


def _is_like(text: MetadataValue, wanted: MetadataValue) -> bool:
    return tokens(cast(str, wanted)) <= tokens(cast(str, text))


_HOLDS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "contains": operator.contains,
    "like": _is_like,
}
