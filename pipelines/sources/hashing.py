"""The content hash of a row: equal where an index built from the rows would be equal.

Only what the mapped columns hold counts, each in the role the mapping gives it; the order of the
columns and rows and Arrow's way of storing a type (string or large_string, int32 or int64,
dictionaries) do not. Columns are brought into one form as Arrow arrays; Python sees a row only as
the bytes that are hashed.
"""

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources.columns import Kind, kind_of, roles
from pipelines.sources.protocol import ColumnMapping

# A null; everything else begins with the digits of its length.
_NULL = b"n"


def row_hashes(batch: pa.RecordBatch, mapping: ColumnMapping) -> list[str]:
    """SHA-256 in hex of each row's mapped columns, in the order of the rows.

    Raises SchemaMismatch for a column whose type an index cannot take.
    """
    columns = [(role, batch.column(name)) for role, name in roles(mapping)]
    kinds = [kind_of(role, column.type) for role, column in columns]
    head = hashlib.sha256(repr([(role, k) for (role, _), k in zip(columns, kinds, strict=True)]
                               + [mapping.text_format]).encode())  # fmt: skip
    pieces = [_framed(_bytes(c, kind)) for (_, c), kind in zip(columns, kinds, strict=True)]
    found = []
    for row in _joined(*pieces).to_pylist():
        one = head.copy()
        one.update(row)
        found.append(one.hexdigest())
    return found


def _bytes(column: pa.Array, kind: Kind) -> pa.Array:
    """The column as large_binary: one spelling a value, nulls kept."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kind == "bytes":
        return column.cast(pa.large_binary())
    if kind == "path":
        return _paths(column)
    if kind == "string":
        return column.cast(pa.large_string(), safe=False).cast(pa.large_binary())
    if kind == "float":
        return _digits(_bits(column.cast(pa.float64())))
    if kind == "timestamp":
        return _digits(column.cast(_in_utc(column.type), safe=False).cast(pa.int64()))
    if kind == "date":
        return _digits(column.cast(pa.int32()).cast(pa.int64()))
    if kind in ("int", "bool"):
        return _digits(column.cast(pa.int64()))
    return _lists(column, kind)


def _paths(column: pa.Array) -> pa.Array:
    """A document's path and the mark of its content; a null where there is no path."""
    path, mark = (_bytes(column.field(name), "string") for name in ("path", "mark"))
    return pc.if_else(path.is_valid(), _joined(_framed(path), _framed(mark)), None)


def _lists(column: pa.Array, kind: Kind) -> pa.Array:
    """Lists of strings, element by element; vectors, as the float32 that an index stores."""
    if kind == "vector":
        rows = column.cast(pa.large_list(pa.float32()), safe=False)
        starts = rows.offsets.to_numpy()
        values = rows.values.to_numpy(zero_copy_only=False).astype("<f4", copy=False)
        content = [values[a:b].tobytes() for a, b in pairwise(starts)]
    else:
        rows = column.cast(pa.large_list(pa.large_string()), safe=False)
        starts = rows.offsets.to_numpy()
        elements = _framed(_bytes(rows.values, "string")).to_pylist()
        content = [b"".join(elements[a:b]) for a, b in pairwise(starts)]
    is_null = rows.is_null().to_numpy(zero_copy_only=False)
    return pa.array(content, pa.large_binary(), mask=is_null)


def _framed(column: pa.Array) -> pa.Array:
    """Each value behind its length, so that joined values cannot be cut in two ways."""
    length = _digits(pc.binary_length(column).cast(pa.int64()))
    return pc.fill_null(_joined(length, pa.scalar(b":", pa.large_binary()), column), _NULL)


def _digits(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_string()).cast(pa.large_binary())


def _bits(column: pa.Array) -> pa.Array:
    """float64 as the int64 of the same bits: every value has one spelling, -0.0 is not 0.0."""
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    bits = column.fill_null(0.0).to_numpy(zero_copy_only=False).view(np.int64)
    return pa.array(bits, mask=is_null)


def _in_utc(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us", tz=kind.tz)


def _joined(*columns: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*columns, pa.scalar(b"", pa.large_binary()))
