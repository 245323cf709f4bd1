"""Vectors that a table already holds, as an index wants them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.errors import BadVectors, SchemaMismatch

# float32 cannot tell such a length from one; those vectors are stored bit for bit.
_UNIT_TOLERANCE = 1e-6


def vectors_of(batch: pa.RecordBatch, column: str, dim: int) -> NDArray[np.float32]:
    """float32 (rows, dim), L2-normalised, of a column of float lists; row i is the batch's row i.

    An index ranks by cosine, which does not know a vector's length, so vectors of any length but
    zero are taken and normalised; one that is normalised already comes out as it is. Raises
    SchemaMismatch where the column is not one of float lists, BadVectors with the numbers of the
    rows that are null, have another length than dim, hold a null, NaN or infinity, or are all
    zeros.
    """
    values = batch.column(column)
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    kind = values.type
    if not any(is_kind(kind) for is_kind in kinds) or not pa.types.is_floating(kind.value_type):
        raise SchemaMismatch(f"column {column!r} must be a list of floats, it is {kind}")
    lengths = pc.fill_null(pc.list_value_length(values), -1).to_numpy(zero_copy_only=False)
    _refuse(lengths != dim, column, f"have no vector of {dim} floats", _lengths(lengths))
    matrix = _matrix(values, dim)
    _refuse(~np.isfinite(matrix).all(axis=1), column, "hold a null, NaN or infinity", "")
    return _normalised(matrix, column)


def _matrix(values: pa.Array, dim: int) -> NDArray[np.floating]:
    flat = values.flatten().to_numpy(zero_copy_only=False)
    if flat.dtype == np.float16:
        flat = flat.astype(np.float32)
    return np.asarray(flat.reshape(len(values), dim))


def _normalised(matrix: NDArray[np.floating], column: str) -> NDArray[np.float32]:
    # The largest value is brought to one first: squares of what float64 holds can overflow it.
    largest = np.abs(matrix).max(axis=1, initial=0.0, keepdims=True)
    _refuse(largest[:, 0] == 0.0, column, "are all zeros, which point nowhere", "")
    scaled = matrix / largest
    lengths = np.sqrt(np.einsum("ij,ij->i", scaled, scaled, dtype=np.float64))[:, None]
    is_unit = np.abs(lengths * largest - 1.0) <= _UNIT_TOLERANCE
    return np.where(is_unit, matrix, scaled / lengths).astype(np.float32)


def _refuse(is_bad: NDArray[np.bool_], column: str, what: str, detail: str) -> None:
    rows = tuple(int(row) for row in np.flatnonzero(is_bad))
    if rows:
        raise BadVectors(
            f"column {column!r}: {len(rows)} rows {what}, the first is row {rows[0]}{detail}; "
            f"correct them in the table",
            rows,
        )


def _lengths(lengths: NDArray[np.integer]) -> str:
    found = sorted({int(length) for length in lengths})[:5]
    return f" (lengths there are: {', '.join('null' if n < 0 else str(n) for n in found)})"
