"""Access and filters in Milvus's expression language.

An expression finds every row that qualifies, and now and then one that does not: each row that
comes back is checked again in plain Python, so an expression may be too wide and never too
narrow. Three things keep it that way. Negations are pushed down to the comparisons, so no `not`
ever meets a null, which servers have treated differently from version to version. Whatever
Milvus cannot say (the smallest 64-bit integer, which its parser reads as an overflow) is left
out. And rows with a value that Milvus cannot hold are marked `loose` and always come back.

Values are written as literals, since milvus-lite 3.2 has no templates; `quoted` is the one way
in which a string gets into an expression.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from vector_index.filter_tree import tokens
from vector_index.filters import And, Compare, Filter, In, IsNull, Not, Operator, Or
from vector_index.manifest import IndexSettings
from vector_index.milvus.names import sort_key, value_field, words_field
from vector_index.passages import Access, MetadataType, MetadataValue

ALWAYS = "since >= 0"
NEVER = "since < 0"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_SMALLEST_INT = -(2**63)
_SYMBOLS: Mapping[Operator, str] = {
    "eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=",
}  # fmt: skip
_OPPOSITES: Mapping[Operator, Operator] = {
    "eq": "ne", "ne": "eq", "lt": "gte", "lte": "gt", "gt": "lte", "gte": "lt",
}  # fmt: skip


def quoted(text: str) -> str:
    """The text as a string literal: the five characters that could end or bend it are escaped."""
    return f'"{text.translate(_ESCAPES)}"'


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=value)


def alive_at(step: int) -> str:
    """Rows that belong to the state of that step."""
    return f"since <= {step} and until > {step}"


def any_of(field: str, values: Iterable[str]) -> str:
    """Rows whose string field is one of the values."""
    return f"{field} in [{', '.join(map(quoted, values))}]"


def after_document(document_id: str) -> str:
    """Rows of documents that sort after this one. `.` is between the separator and a digit."""
    return f'id > "{sort_key(document_id)}."'


def qualifying(step: int, access: Access, where: Filter | None, settings: IndexSettings) -> str:
    """At least the rows alive at that step that `access` may see and `where` accepts."""
    parts = [alive_at(step)]
    if settings.has_tenant:
        parts.append(f"tenant == {quoted(access.tenant)}")
    loosely = []
    if settings.has_groups:
        loosely.append(_holds_any("allowed_groups", sorted(access.groups)))
    if where is not None:
        loosely.append(necessary(where, settings.metadata_columns))
    if loosely:
        parts.append(f"(loose == true or ({' and '.join(loosely)}))")
    return " and ".join(parts)


def necessary(tree: Filter, columns: Mapping[str, MetadataType]) -> str:
    """What must hold of a row that is not loose for the filter to accept it."""
    return _wanted(tree, columns, is_held=True)


def _wanted(tree: Filter, columns: Mapping[str, MetadataType], *, is_held: bool) -> str:
    match tree:
        case And(parts):
            return _joined([_wanted(part, columns, is_held=is_held) for part in parts], is_held)
        case Or(parts):
            return _joined([_wanted(part, columns, is_held=is_held) for part in parts], not is_held)
        case Not(part):
            return _wanted(part, columns, is_held=not is_held)
        case IsNull(column):
            return f"{value_field(column)} is {'' if is_held else 'not '}null"
        case In(column, values):
            name: Operator = "eq" if is_held else "ne"
            found = [_compared(Compare(column, name, value), columns[column]) for value in values]
            return _or_null(column, _joined(found, not is_held), is_held)
        case Compare(column, name, _) if name in _OPPOSITES and not is_held:
            opposite = Compare(column, _OPPOSITES[name], tree.value)
            return _or_null(column, _compared(opposite, columns[column]), is_held)
        case Compare(column, name, _) if name in _OPPOSITES:
            return _compared(tree, columns[column])
        case Compare(column, name, value):
            return _or_null(column, _holding(column, name, value, is_held), is_held)


def _joined(parts: list[str], is_every: bool) -> str:
    if not parts:
        return ALWAYS if is_every else NEVER
    return f"({(' and ' if is_every else ' or ').join(parts)})"


def _or_null(column: str, expression: str, is_held: bool) -> str:
    return expression if is_held else f"({value_field(column)} is null or {expression})"


def _compared(leaf: Compare, kind: MetadataType) -> str:
    literal = _LITERALS[kind](leaf.value)
    if literal is None:
        return ALWAYS
    return f"{value_field(leaf.column)} {_SYMBOLS[leaf.operator]} {literal}"


def _holding(column: str, name: Operator, value: MetadataValue, is_held: bool) -> str:
    assert isinstance(value, str)
    if name == "contains":
        found = f"array_contains({value_field(column)}, {quoted(value)})"
    else:
        words = ", ".join(map(quoted, sorted(tokens(value))))
        if not words:
            return ALWAYS
        found = f"array_contains_all({words_field(column)}, [{words}])"
    return found if is_held else f"(not {found})"


def _holds_any(field: str, values: list[str]) -> str:
    if not values:
        return NEVER
    return f"array_contains_any({field}, [{', '.join(map(quoted, values))}])"


def _integer(value: object) -> str | None:
    assert isinstance(value, int)
    return str(value) if value > _SMALLEST_INT else None


def _float(value: object) -> str:
    assert isinstance(value, int | float)
    return repr(float(value))


def _string(value: object) -> str:
    assert isinstance(value, str)
    return quoted(value)


def _timestamp(value: object) -> str:
    assert isinstance(value, datetime)
    return str(microseconds(value))


def _date(value: object) -> str:
    assert isinstance(value, date)
    return str(value.toordinal())


_LITERALS: Mapping[MetadataType, Callable[[object], str | None]] = {
    "string": _string,
    "int": _integer,
    "float": _float,
    "bool": lambda value: "true" if value else "false",
    "timestamp": _timestamp,
    "date": _date,
}
