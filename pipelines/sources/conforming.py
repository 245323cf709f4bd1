"""Rows of many files as rows of one table: the same columns, of the same Arrow types."""

from collections.abc import Mapping

import pyarrow as pa

from pipelines.sources.columns import Kind, check_columns, kind_of, roles
from pipelines.sources.protocol import ColumnMapping
from vector_index.passages import ARROW_TYPES


def text_columns(mapping: ColumnMapping) -> frozenset[str]:
    """The mapped columns that must hold strings."""
    text = None if mapping.text_from == "bytes" else mapping.text
    named = (mapping.key, mapping.title, text, mapping.tenant)
    return frozenset(name for name in named if name is not None)


def read_types(schema: pa.Schema, mapping: ColumnMapping, where: object) -> dict[str, pa.DataType]:
    """The Arrow type each mapped column is read as: that of its kind in an index.

    A vector column is read as it is. where: the table or file, for messages. Raises
    SchemaMismatch.
    """
    check_columns(schema, mapping, where)
    types = {}
    for role, name in roles(mapping):
        stored = schema.field(name).type
        types[name] = _read_as(kind_of(role, stored), stored)
    return {name: types[name] for name in mapping.columns()}


def conform(batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """The columns of `types`, in that order, as those types.

    Timestamps become microseconds in UTC; one without a zone is taken to be in UTC already.
    """
    arrays = [_cast(batch.column(name), arrow) for name, arrow in types.items()]
    return pa.RecordBatch.from_arrays(arrays, names=list(types))


def _read_as(kind: Kind, stored: pa.DataType) -> pa.DataType:
    if kind == "vector":
        return stored
    if kind == "bytes":
        return pa.large_binary()
    assert kind != "path", "paths are marked after they are read"
    return ARROW_TYPES[kind]


def _cast(column: pa.Array, arrow: pa.DataType) -> pa.Array:
    if column.type == arrow:
        return column
    # Below the microsecond there is nothing to filter by; elsewhere a cast must keep the value.
    return column.cast(arrow, safe=not pa.types.is_timestamp(arrow))
