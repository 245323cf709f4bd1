"""Arrow columns in the NumPy forms that answer a condition in one or two passes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.errors import InvalidFilter
from vector_index.filter_tree import Operator, tokens
from vector_index.passages import ARROW_TYPES, MetadataValue

Mask = NDArray[np.bool_]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMPARE: Mapping[Operator, Callable[[Any, Any], Mask]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "lte": np.less_equal,
    "gt": np.greater,
    "gte": np.greater_equal,
}
_COMPARE_STRINGS: Mapping[Operator, Callable[[pa.Array, pa.Scalar], pa.BooleanArray]] = {
    "lt": pc.less,
    "lte": pc.less_equal,
    "gt": pc.greater,
    "gte": pc.greater_equal,
}
# Tokens pass through Python strings: this many values at a time bound what that holds.
_TOKENISED_AT_ONCE = 65_536


class Decoded(Protocol):
    """One column. Every mask is new, bool (rows,), the caller's to change; null rows are False."""

    def is_null(self) -> Mask: ...
    def compare(self, operator: Operator, value: MetadataValue) -> Mask: ...
    def is_in(self, values: Sequence[MetadataValue]) -> Mask: ...


class Numbers:
    """Integers, floats, bools, dates as days and timestamps as microseconds since 1970.

    Memory: none (a view of Arrow's buffer), but 1 byte a row for bools, and 1 where some are null.
    """

    def __init__(self, column: pa.Array) -> None:
        self._values = _raw(column)
        self._present = _present(column)

    def is_null(self) -> Mask:
        return _absent(self._present, len(self._values))

    def compare(self, operator: Operator, value: MetadataValue) -> Mask:
        return self._and_present(_COMPARE[operator](self._values, _number(value)))

    def is_in(self, values: Sequence[MetadataValue]) -> Mask:
        # A pass per value, 0.1 ms a million rows, beats hashing and sorting up to ~100 values.
        found = np.zeros(len(self._values), np.bool_)
        for value in values:
            found |= self._values == _number(value)
        return self._and_present(found)

    def _and_present(self, mask: Mask) -> Mask:
        if self._present is not None:
            mask &= self._present
        return mask


class Strings:
    """Strings as int32 codes into their distinct values; -1 is null.

    Whatever is asked is asked of the distinct values, and carried to the rows by their codes.
    Memory: 4 bytes a row and the distinct values; the first `like` adds 4 bytes for every token
    of every distinct value, and the distinct tokens.
    """

    def __init__(self, column: pa.Array) -> None:
        self._codes, self._distinct = _encode(column)
        self._words: StringLists | None = None

    def is_null(self) -> Mask:
        return self._codes < 0

    def compare(self, operator: Operator, value: MetadataValue) -> Mask:
        if operator == "like":
            return self._rows(self._holding_tokens(cast(str, value)))
        if operator == "eq":
            code = _code(self._distinct, cast(str, value))
            return np.zeros(len(self._codes), np.bool_) if code is None else self._codes == code
        if operator == "ne":
            return ~self.compare("eq", value) & (self._codes >= 0)
        wanted = pa.scalar(value, self._distinct.type)
        return self._rows(_mask(_COMPARE_STRINGS[operator](self._distinct, wanted)))

    def is_in(self, values: Sequence[MetadataValue]) -> Mask:
        wanted = pa.array(values, self._distinct.type)
        return self._rows(_mask(pc.is_in(self._distinct, value_set=wanted)))

    def _rows(self, distinct: Mask) -> Mask:
        """The rows whose value is marked in `distinct`, bool (distinct values,)."""
        # The code of null, -1, finds the False appended at the end.
        return np.take(np.append(distinct, False), self._codes)

    def _holding_tokens(self, text: str) -> Mask:
        words = self._words
        if words is None:
            # Two threads may both build this; they build the same, so either may stay.
            words = self._words = StringLists(_token_lists(self._distinct))
        held = np.ones(len(self._distinct), np.bool_)
        for token in tokens(text):
            held &= words.compare("contains", token)
        return held


class StringLists:
    """Arrays of strings as posting lists: for every distinct string, the rows that hold it.

    `contains` costs what it finds, not what there is. Memory: 4 bytes an array element, 8 a
    distinct string and the string itself; 1 byte a row where some arrays are null.
    """

    def __init__(self, column: pa.ListArray) -> None:
        self._count = len(column)
        self._present = _present(column)
        # flatten() skips what lies under a null array, and so must the lengths.
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        owners = np.repeat(np.arange(self._count, dtype=np.int32), lengths)
        codes, self._distinct = _encode(column.flatten())
        # NumPy sorts 16-bit integers by radix, four times as fast.
        small = codes.astype(np.int16) if len(self._distinct) < 2**15 else codes
        order = np.argsort(small, kind="stable")
        self._postings = owners[order]
        # Null elements have code -1 and sort first: no distinct string's range reaches them.
        self._starts = np.searchsorted(codes[order], np.arange(len(self._distinct) + 1))

    def is_null(self) -> Mask:
        return _absent(self._present, self._count)

    def compare(self, operator: Operator, value: MetadataValue) -> Mask:
        if operator != "contains":
            raise InvalidFilter(f"an array column has no {operator!r}; use contains")
        mask = np.zeros(self._count, np.bool_)
        code = _code(self._distinct, cast(str, value))
        if code is not None:
            mask[self._postings[self._starts[code] : self._starts[code + 1]]] = True
        return mask

    def is_in(self, values: Sequence[MetadataValue]) -> Mask:
        raise InvalidFilter("an array column has no 'in'; use contains_any")


def decode(column: pa.Array) -> Decoded:
    """The form for a column of one of `passages.ARROW_TYPES`, or their large variants.

    Raises InvalidFilter for any other type.
    """
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return Strings(column)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return StringLists(column)
    if column.type not in ARROW_TYPES.values():
        raise InvalidFilter(f"a column of Arrow type {column.type} cannot be filtered")
    return Numbers(column)


def _number(value: MetadataValue) -> MetadataValue:
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (value - _EPOCH.date()).days
    return value


def _raw(column: pa.Array) -> NDArray[Any]:
    """The values as stored, whatever lies under the nulls, without a copy (bools are unpacked)."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        kind = pa.int64() if pa.types.is_timestamp(kind) else pa.int32()
    buffers = [None, column.buffers()[1]]
    bare = pa.Array.from_buffers(kind, len(column), buffers, null_count=0, offset=column.offset)
    return cast(NDArray[Any], bare.to_numpy(zero_copy_only=False))


def _present(column: pa.Array) -> Mask | None:
    """Which rows have a value; None where all have one."""
    return _mask(column.is_valid()) if column.null_count else None


def _absent(present: Mask | None, count: int) -> Mask:
    return np.zeros(count, np.bool_) if present is None else ~present


def _encode(column: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
    encoded = column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    return codes.astype(np.int32, copy=False), encoded.dictionary


def _code(distinct: pa.Array, value: str) -> int | None:
    found = np.flatnonzero(_mask(pc.equal(distinct, pa.scalar(value, distinct.type))))
    return int(found[0]) if len(found) else None


def _token_lists(texts: pa.Array) -> pa.ListArray:
    blocks = [pa.array([], pa.list_(pa.string()))]
    for start in range(0, len(texts), _TOKENISED_AT_ONCE):
        block = texts.slice(start, _TOKENISED_AT_ONCE).to_pylist()
        blocks.append(pa.array([list(tokens(text)) for text in block], blocks[0].type))
    return pa.concat_arrays(blocks)


def _mask(values: pa.BooleanArray) -> Mask:
    return cast(Mask, values.to_numpy(zero_copy_only=False))
