"""Keys tell rows apart: a null or a second one of the same name ends a sync before it begins."""

from collections.abc import Iterable

import pyarrow as pa

from pipelines.errors import BadKeys
from pipelines.sources.hashing import row_hashes
from pipelines.sources.protocol import ColumnMapping


def collect_hashes(
    batches: Iterable[pa.RecordBatch], mapping: ColumnMapping, table: object
) -> dict[str, str]:
    """Key to content hash of all these rows. Raises BadKeys: null, duplicate, not UTF-8."""
    found: dict[str, str] = {}
    for batch in batches:
        keys = batch.column(mapping.key)
        if keys.null_count:
            raise BadKeys(
                f"{keys.null_count} rows of {table} have a null {mapping.key!r}; "
                "give every row a key, then sync again"
            )
        named = _names(keys, mapping.key, table)
        if len(set(named)) < len(named) or not found.keys().isdisjoint(named):
            raise BadKeys(_duplicate(named, found, table))
        found.update(zip(named, row_hashes(batch, mapping), strict=True))
    return found


def _names(keys: pa.Array, column: str, table: object) -> list[str]:
    try:
        named: list[str] = keys.to_pylist()
    except UnicodeDecodeError as exc:
        raise BadKeys(
            f"a key of {table} is not UTF-8: {exc.object!r} in {column!r}; "
            "write the row anew under another key, then sync again"
        ) from exc
    return named


def _duplicate(named: list[str], before: dict[str, str], table: object) -> str:
    seen = set(before)
    for key in named:
        if key in seen:
            return f"key {key!r} stands more than once in {table}; keys must be unique"
        seen.add(key)
    raise AssertionError("there is a duplicate")
