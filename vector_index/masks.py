"""Filters and access as boolean masks over the rows of one segment.

Bitmaps rather than DuckDB SQL: a filter over a million rows takes 0.06 to 1.5 ms, and the same
mask 2 to 59 ms in Arrow's kernels, 1.7 to 49 in DuckDB: 4.0 and 4.7 times as long at the least
(`OMP_NUM_THREADS=1 python benchmarks/filters.py`, 2 cores). A column is decoded once a segment.
"""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vector_index.decoded import Decoded, Mask, decode
from vector_index.errors import InvalidFilter
from vector_index.filters import And, Compare, Filter, In, IsNull, Not, Or
from vector_index.passages import Access

__all__ = ["AccessColumns", "Columns", "Mask", "access_filter", "access_mask"]


class Columns:
    """The filterable columns of one segment's rows, each decoded at its first use.

    metadata: a struct of declared metadata columns, one field each; null structs are rows of
    nulls. What it holds in memory is said beside each form in `vector_index.decoded`: at most
    4 bytes a row and column, plus the distinct strings, plus 4 bytes an array element.
    Safe to use from many threads without a lock: two may decode the same column, to the same end.
    """

    def __init__(self, metadata: pa.StructArray | pa.ChunkedArray) -> None:
        self._type: pa.StructType = metadata.type
        self._count = len(metadata)
        self._chunks = metadata.chunks if isinstance(metadata, pa.ChunkedArray) else [metadata]
        self._decoded: dict[str, Decoded] = {}

    def mask(self, where: Filter) -> Mask:
        """Which rows satisfy the filter, bool (rows,): the vectorised twin of `filters.matches`.

        Raises InvalidFilter where the filter names a column that is not there.
        """
        match where:
            case And(parts):
                mask = np.ones(self._count, np.bool_)
                for part in parts:
                    mask &= self.mask(part)
            case Or(parts):
                mask = np.zeros(self._count, np.bool_)
                for part in parts:
                    mask |= self.mask(part)
            case Not(part):
                mask = ~self.mask(part)
            case IsNull(column):
                mask = self._column(column).is_null()
            case In(column, values):
                mask = self._column(column).is_in(values)
            case Compare(column, operator, value):
                mask = self._column(column).compare(operator, value)
        return mask

    def _column(self, name: str) -> Decoded:
        known = self._decoded.get(name)
        if known is None:
            known = self._decoded.setdefault(name, decode(self._field(name)))
        return known

    def _field(self, name: str) -> pa.Array:
        position = self._type.get_field_index(name)
        if position < 0:
            held = ", ".join(field.name for field in self._type) or "none"
            raise InvalidFilter(f"unknown filter column {name!r}; this segment has: {held}")
        fields = [pc.struct_field(chunk, position) for chunk in self._chunks]
        if len(fields) == 1:
            return fields[0]
        kind = self._type.field(position).type
        return pa.concat_arrays(fields) if fields else pa.array([], kind)


class AccessColumns:
    """The tenant and the allowed groups of one segment's rows, decoded once for every asker.

    A column given as None does not restrict; a null tenant, null or empty groups are visible to
    nobody.
    """

    def __init__(
        self,
        tenant: pa.Array | pa.ChunkedArray | None,
        groups: pa.ListArray | pa.ChunkedArray | None,
        rows: int,
    ) -> None:
        given = {"tenant": tenant, "allowed_groups": groups}
        self._names = [name for name, column in given.items() if column is not None]
        table = pa.table({name: given[name] for name in self._names})
        self._columns = Columns(table.to_struct_array())
        self._count = rows

    def mask(self, access: Access) -> Mask:
        """Which rows the asker may see, bool (rows,)."""
        if not self._names:
            return np.ones(self._count, np.bool_)
        return self._columns.mask(access_filter(access, self._names))


def access_filter(access: Access, restricting: Collection[str]) -> Filter:
    """What an asker may see, as a filter over those of `tenant` and `allowed_groups` that restrict.

    Who may see a row is thereby decided by the same code, and the same tests, as every filter.
    """
    parts: list[Filter] = []
    if "tenant" in restricting:
        parts.append(Compare("tenant", "eq", access.tenant))
    if "allowed_groups" in restricting:
        held = (Compare("allowed_groups", "contains", group) for group in sorted(access.groups))
        parts.append(Or(tuple(held)))
    return And(tuple(parts))


def access_mask(
    access: Access,
    tenant: pa.Array | pa.ChunkedArray | None,
    groups: pa.ListArray | pa.ChunkedArray | None,
    rows: int,
) -> Mask:
    """Which rows one asker may see; keep an `AccessColumns` instead where more will ask."""
    return AccessColumns(tenant, groups, rows).mask(access)
