"""Which columns a mapping names, in what roles, and whether their Arrow types will do."""

import hashlib
from typing import Literal

import pyarrow as pa

from pipelines.errors import SchemaMismatch
from pipelines.sources.protocol import ColumnMapping
from vector_index.passages import MetadataType

Kind = MetadataType | Literal["vector", "bytes", "path"]

_SPELLINGS: tuple[tuple[MetadataType, tuple[str, ...]], ...] = (
    ("string", ("string", "large_string", "string_view")),
    ("int", ("int8", "int16", "int32", "int64")),
    ("float", ("float", "double")),
    ("bool", ("bool",)),
    ("date", ("date32[day]",)),
)
_METADATA = "metadata:"
# A document's path with the mark of its content, as DocumentSource has it.
MARKED_PATH = pa.struct([("path", pa.string()), ("mark", pa.string())])
_WANTED: dict[str, Kind] = {
    "groups": "strings",
    "updated_at": "timestamp",
    "tenant": "string",
    "key": "string",
    "title": "string",
    "text": "string",
    "vector": "vector",
}


def roles(mapping: ColumnMapping) -> list[tuple[str, str]]:
    """(role, column) of every mapped column, by role; a metadata column's role has its name."""
    single = {role: getattr(mapping, role) for role in _WANTED}
    found = [(role, name) for role, name in single.items() if name is not None]
    return sorted([*found, *((f"{_METADATA}{name}", name) for name in mapping.metadata)])


def kind_of(role: str, arrow: pa.DataType) -> Kind:
    """What a column of this type holds. Raises SchemaMismatch where an index cannot take it."""
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
    if role == "text" and arrow == MARKED_PATH:
        return "path"
    if role == "text" and is_bytes(arrow):
        return "bytes"
    if role == "vector" and _is_list(arrow) and pa.types.is_floating(arrow.value_type):
        return "vector"
    for kind, spellings in _SPELLINGS:
        if str(arrow) in spellings:
            return kind
    if pa.types.is_timestamp(arrow):
        return "timestamp"
    if _is_list(arrow) and kind_of("element", arrow.value_type) == "string":
        return "strings"
    name = role.removeprefix(_METADATA)
    raise SchemaMismatch(f"column {name!r} has type {arrow}, which a filter cannot use")


def check_columns(schema: pa.Schema, mapping: ColumnMapping, table: object) -> None:
    """Raises SchemaMismatch unless every mapped column is there and has a fitting type."""
    for role, column in roles(mapping):
        if column not in schema.names:
            raise SchemaMismatch(
                f"table {table} has no column {column!r}; it has: {', '.join(schema.names)}"
            )
        if role in _WANTED:
            is_document = role == "text" and mapping.text_from == "bytes"
            wanted = "bytes" if is_document else _WANTED[role]
            _check_kind(role, column, schema.field(column).type, wanted)


def metadata_types(schema: pa.Schema, mapping: ColumnMapping) -> dict[str, MetadataType]:
    """The filterable type of each mapped metadata column. Raises SchemaMismatch."""
    return {
        name: kind_of(f"{_METADATA}{name}", schema.field(name).type)  # type: ignore[misc]
        for name in mapping.metadata
    }


def fingerprint(schema: pa.Schema, mapping: ColumnMapping) -> str:
    """16 hex digits over the mapped columns' roles, names and types, and how text is read."""
    columns = [
        (role, name, kind_of(role, schema.field(name).type)) for role, name in roles(mapping)
    ]
    how = [mapping.text_format] if mapping.text_from == "text" else [mapping.text_from]
    return hashlib.sha256(repr((columns, *how)).encode()).hexdigest()[:16]


def is_bytes(arrow: pa.DataType) -> bool:
    """Whether a column of this type can hold documents."""
    return str(arrow) in ("binary", "large_binary", "binary_view")


def _check_kind(role: str, column: str, arrow: pa.DataType, wanted: Kind) -> None:
    try:
        found = kind_of(role, arrow)
    except SchemaMismatch:
        found = None
    if found != wanted:
        names = {"strings": "an array of strings", "vector": "an array of floats",
                 "bytes": "binary, of documents"}  # fmt: skip
        should = names.get(wanted, f"a {wanted}")
        raise SchemaMismatch(f"column {column!r} must be {should}, it is {arrow}")


def _is_list(arrow: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(arrow) for is_kind in kinds)
