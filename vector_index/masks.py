"""Filters and access as boolean masks over the rows of an Arrow passages table."""

from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.filters import And, Compare, Filter, In, IsNull, Not, Or
from vector_index.passages import Access

Mask = NDArray[np.bool_]

_COMPARISONS = {
    "eq": pc.equal,
    "ne": pc.not_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
    "gt": pc.greater,
    "gte": pc.greater_equal,
}


class Columns:
    """Stand-in for branch filters' decoded columns."""

    def __init__(self, metadata: pa.StructArray) -> None:
        self._metadata = metadata

    def mask(self, where: Filter) -> Mask:
        return filter_mask(where, self._metadata)


def filter_mask(tree: Filter, metadata: pa.StructArray) -> Mask:
    """Which rows satisfy the filter, bool (rows,): the vectorised twin of `filters.matches`."""
    match tree:
        case And(parts):
            return _combine(np.logical_and, [filter_mask(p, metadata) for p in parts], metadata)
        case Or(parts):
            return ~_combine(np.logical_and, [~filter_mask(p, metadata) for p in parts], metadata)
        case Not(part):
            return ~filter_mask(part, metadata)
        case IsNull(column):
            return _mask(pc.is_null(metadata.field(column)))
        case In(column, values):
            field = metadata.field(column)
            return _mask(pc.is_in(field, value_set=pa.array(values, field.type)))
        case Compare(column, "contains", value):
            return _list_overlap(metadata.field(column), [cast(str, value)])
        case Compare(column, operator, value):
            field = metadata.field(column)
            return _mask(_COMPARISONS[operator](field, pa.scalar(value, field.type)))


def access_mask(
    access: Access, tenant: pa.Array | None, groups: pa.ListArray | None, rows: int
) -> Mask:
    """Which rows the asker may see; a column given as None does not restrict."""
    mask = np.ones(rows, np.bool_)
    if tenant is not None:
        mask &= _mask(pc.equal(tenant, access.tenant))
    if groups is not None:
        mask &= _list_overlap(groups, sorted(access.groups))
    return mask


def _list_overlap(lists: pa.ListArray, wanted: list[str]) -> Mask:
    """Rows whose list shares a value with `wanted`; null and empty lists share none."""
    mask = np.zeros(len(lists), np.bool_)
    found = pc.is_in(lists.flatten(), value_set=pa.array(wanted, pa.string()))
    owners = pc.list_parent_indices(lists)
    mask[owners.filter(found).to_numpy(zero_copy_only=False)] = True
    return mask


def _mask(values: pa.Array) -> Mask:
    return cast(Mask, pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(np.bool_))


def _combine(operation: np.ufunc, masks: list[Mask], metadata: pa.StructArray) -> Mask:
    everything = np.ones(len(metadata), np.bool_)
    return cast(Mask, operation.reduce([everything, *masks]))
