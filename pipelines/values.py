"""Values that Arrow stores and nobody could read back: their rows are set aside, not indexed."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.reasons import Reason

_TEXT_KINDS = ("string", "large_string", "string_view")
_UNITS_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# What Python's dates reach: from the first day of year 1 to the last of year 9999.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_DAY_S = 86_400


def unreadable(batch: pa.RecordBatch) -> Iterator[tuple[int, Reason, str]]:
    """(row, reason, what is wrong and how to mend it) of each value that a search would fail on.

    Text that is not UTF-8, alone or in a list; a null in a list of text; a date or moment outside
    the years 1 to 9999. A row may come more than once.
    """
    for name in batch.schema.names:
        column = batch.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        for row in _undecodable(column):
            yield row, Reason.BAD_ENCODING, (
                f"column {name!r} is not UTF-8; write the row anew, decoded as it was encoded"
            )  # fmt: skip
        for row in _with_null_element(column):
            yield row, Reason.BAD_VALUE, f"column {name!r} is a list with a null; leave it out"
        for row in _out_of_time(column):
            yield row, Reason.BAD_VALUE, (
                f"column {name!r} is outside the years 1 to 9999; correct it in the table"
            )  # fmt: skip


def _undecodable(column: pa.Array) -> list[int]:
    """The rows of text that are not UTF-8, which Arrow itself takes as it comes."""
    owners = None
    if _is_text_list(column.type):
        owners, column = pc.list_parent_indices(column), pc.list_flatten(column)
    if str(column.type) not in _TEXT_KINDS:
        return []
    content = column.cast(pa.large_string()).cast(pa.large_binary())
    try:
        content.cast(pa.large_string())  # checks all of it at once
    except pa.ArrowInvalid:
        places = [at for at, value in enumerate(content.to_pylist()) if not _is_utf8(value)]
        return places if owners is None else sorted({owners[at].as_py() for at in places})
    return []


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _with_null_element(column: pa.Array) -> list[int]:
    if not _is_text_list(column.type):
        return []
    is_null = pc.list_flatten(column).is_null()
    found: list[int] = pc.unique(pc.list_parent_indices(column).filter(is_null)).to_pylist()
    return found


def _out_of_time(column: pa.Array) -> list[int]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        units = _DAY_S * _UNITS_A_SECOND[kind.unit]
        days = column.cast(pa.int64()).fill_null(0).to_numpy() // units
    elif pa.types.is_date32(kind):
        days = column.cast(pa.int32()).fill_null(0).to_numpy()
    else:
        return []
    found: list[int] = np.flatnonzero((days < _FIRST_DAY) | (days > _LAST_DAY)).tolist()
    return found


def _is_text_list(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in kinds) and str(kind.value_type) in _TEXT_KINDS
