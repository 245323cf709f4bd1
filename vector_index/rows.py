"""Passages that never change: who may see which row, which rows satisfy a filter, what they say."""

from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.filters import Filter
from vector_index.manifest import IndexSettings
from vector_index.masks import AccessColumns, Columns, Mask
from vector_index.passages import Access, Passage, passage_from_row

# Masks are one byte a row: 64 askers over a million passages stay within 64 MB.
_ACCESS_MASKS = 64


class PassageRows:
    """An immutable passages table of `passage_schema(...)`, read by row number."""

    def __init__(self, passages: pa.Table, settings: IndexSettings) -> None:
        self.table = passages
        self._settings = settings
        self._visible = lru_cache(maxsize=_ACCESS_MASKS)(self._compute_visible)

    def allowed(self, access: Access | None, where: Filter | None) -> Mask | None:
        """Rows this asker may see that satisfy the filter; None where that is every row.

        access None is an operator, who sees everything.
        """
        visible = None if access is None else self._visible(access)
        if where is None:
            return visible
        satisfying = self._columns.mask(where)
        return satisfying if visible is None else visible & satisfying

    def take(self, rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at these rows, in this order: one Arrow take for all of them."""
        return [passage_from_row(row) for row in self.table.take(pa.array(rows)).to_pylist()]

    def rows_with(self, text_hashes: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
        """The texts that are here, each with a row of it: one pass over their hashes."""
        hashes = self.table["text_hash"]
        rows = pc.indices_nonzero(pc.is_in(hashes, text_hashes)).to_numpy().astype(np.int64)
        found = dict(zip(hashes.take(pa.array(rows)).to_pylist(), rows.tolist(), strict=True))
        return list(found), np.array(list(found.values()), np.int64)

    def _compute_visible(self, access: Access) -> Mask | None:
        mask = self._access.mask(access)
        return None if mask.all() else mask

    @cached_property
    def _access(self) -> AccessColumns:
        tenant = self.table["tenant"] if self._settings.has_tenant else None
        groups = self.table["allowed_groups"] if self._settings.has_groups else None
        return AccessColumns(tenant, groups, self.table.num_rows)

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self.table["metadata"])
