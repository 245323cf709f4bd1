"""Columns that stand in folder names: `year=2026/tenant=acme/part-0.parquet`."""

from collections.abc import Collection, Iterable
from urllib.parse import unquote

import pyarrow as pa

from pipelines.errors import SchemaMismatch

# How Hive and all after it spell a null in a folder name.
_NULL = "__HIVE_DEFAULT_PARTITION__"
_INT64 = range(-(2**63), 2**63)


def partition_of(path: str) -> dict[str, str | None]:
    """Column to value of a file's folders, outermost first."""
    pairs = (part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
    return {name: None if value == _NULL else unquote(value) for name, value in pairs}


def partition_schema(paths: Iterable[str], *, strings: Collection[str]) -> pa.Schema:
    """The columns in the folder names of `paths`: int64 where every value is written as one.

    strings: columns that stay strings even so. Raises SchemaMismatch where two files are not
    partitioned alike.
    """
    seen: dict[str, set[str | None]] = {}
    first = ""
    for path in paths:
        here = partition_of(path)
        if first and list(here) != list(seen):
            raise SchemaMismatch(
                f"{path} is partitioned by {list(here) or 'nothing'}, {first} by "
                f"{list(seen) or 'nothing'}; all files of a table are partitioned alike"
            )
        first = first or path
        for name, value in here.items():
            seen.setdefault(name, set()).add(value)
    return pa.schema(
        [(name, pa.string() if name in strings or not _are_integers(values) else pa.int64())
         for name, values in seen.items()]
    )  # fmt: skip


def partition_columns(path: str, schema: pa.Schema) -> dict[str, pa.Scalar]:
    """The file's partition columns, each one value of its type in `schema`."""
    return {
        name: pa.scalar(value, pa.string()).cast(schema.field(name).type)
        for name, value in partition_of(path).items()
    }


def _are_integers(values: Collection[str | None]) -> bool:
    """`007` is a name: as a number it would come back as 7."""
    written = [value for value in values if value is not None]
    return bool(written) and all(_is_integer(value) for value in written)


def _is_integer(value: str) -> bool:
    digits = value.removeprefix("-")
    return (
        digits.isascii() and digits.isdigit() and str(int(value)) == value and int(value) in _INT64
    )
