"""A Delta table read at one pinned version, as rows an index understands."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipelines.errors import BadKeys, SchemaMismatch, TableNotFound
from vector_index.passages import Lag, MetadataType, SourceVersion

_METADATA_TYPES: tuple[tuple[MetadataType, tuple[str, ...]], ...] = (
    ("string", ("string", "large_string", "string_view")),
    ("int", ("int8", "int16", "int32", "int64")),
    ("float", ("float", "double")),
    ("bool", ("bool",)),
    ("date", ("date32[day]",)),
)


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which columns of the table mean what."""

    key: str
    title: str
    text: str
    metadata: tuple[str, ...] = ()
    tenant: str | None = None
    groups: str | None = None
    updated_at: str | None = None

    def columns(self) -> list[str]:
        """Every mapped column once, in a stable order."""
        named = [self.key, self.title, self.text, *self.metadata]
        optional = [self.tenant, self.groups, self.updated_at]
        return list(dict.fromkeys([*named, *(name for name in optional if name is not None)]))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The mapped columns of one version of the table, and each row's content hash."""

    rows: pa.Table
    hashes: Mapping[str, str]
    source: SourceVersion


class DeltaSource:
    """A local Delta table. Every call opens the table anew: the object is not shared by threads."""

    def __init__(self, path: Path, mapping: ColumnMapping) -> None:
        self.path = path
        self.mapping = mapping

    def metadata_types(self) -> dict[str, MetadataType]:
        """The filterable type of each mapped metadata column. Raises SchemaMismatch."""
        schema = self._schema(self._open())
        return {name: _metadata_type(name, schema.field(name).type) for name in
                self.mapping.metadata}  # fmt: skip

    def version(self) -> SourceVersion:
        """The newest committed version."""
        return self._source_version(self._open())

    def lag(self, indexed: SourceVersion) -> Lag:
        """How far behind the newest commit an index of `indexed` is."""
        table = self._open()
        is_same_table = str(table.metadata().id) == indexed.table_id
        behind = table.version() - indexed.version if is_same_table else None
        if behind == 0:
            return Lag(0, 0.0)
        # A restored copy of the table's files can stand before the indexed version: count all.
        unseen = table.history(behind if behind is not None and behind > 0 else None)
        oldest = datetime.fromtimestamp(unseen[-1]["timestamp"] / 1000, UTC)
        return Lag(behind, max(0.0, (datetime.now(UTC) - oldest).total_seconds()))

    def snapshot(self) -> Snapshot:
        """All rows of the newest version. Raises BadKeys for null or duplicate keys."""
        table = self._open()
        self._schema(table)
        rows = table.to_pyarrow_dataset().to_table(columns=self.mapping.columns())
        self._check_keys(rows[self.mapping.key])
        ids = rows[self.mapping.key].to_pylist()
        hashes = (_row_hash(row) for row in rows.to_pylist())
        return Snapshot(rows, dict(zip(ids, hashes, strict=True)), self._source_version(table))

    def _open(self) -> DeltaTable:
        try:
            return DeltaTable(str(self.path))
        except DeltaError as exc:
            raise TableNotFound(
                f"no Delta table at {self.path}; check the index's source.path ({exc})"
            ) from exc

    def _schema(self, table: DeltaTable) -> pa.Schema:
        schema = pa.schema(table.schema().to_arrow())
        for column in self.mapping.columns():
            if column not in schema.names:
                raise SchemaMismatch(
                    f"table {self.path} has no column {column!r}; it has: {', '.join(schema.names)}"
                )
        mapping = self.mapping
        wanted: dict[str | None, MetadataType] = {
            mapping.groups: "strings",
            mapping.updated_at: "timestamp",
            mapping.tenant: "string",
            mapping.key: "string",
            mapping.title: "string",
            mapping.text: "string",
        }
        for name, kind in wanted.items():
            if name is not None:
                _check_type(name, schema.field(name).type, kind)
        return schema

    def _source_version(self, table: DeltaTable) -> SourceVersion:
        newest = table.history(1)[0]
        fingerprint = hashlib.sha256(str(pa.schema(table.schema().to_arrow())).encode())
        return SourceVersion(
            table_id=str(table.metadata().id),
            version=table.version(),
            schema_fingerprint=fingerprint.hexdigest()[:16],
            committed_at=datetime.fromtimestamp(newest["timestamp"] / 1000, UTC),
        )

    def _check_keys(self, keys: pa.ChunkedArray) -> None:
        if keys.null_count:
            raise BadKeys(
                f"{keys.null_count} rows of {self.path} have a null {self.mapping.key!r}; "
                "give every row a key, then sync again"
            )
        counts = pc.value_counts(keys.cast(pa.string())).to_pylist()
        if double := [entry["values"] for entry in counts if entry["counts"] > 1]:
            raise BadKeys(
                f"key {double[0]!r} stands more than once in {self.path} "
                f"({len(double)} duplicated keys); keys must be unique"
            )


def _metadata_type(name: str, arrow: pa.DataType) -> MetadataType:
    for kind, spellings in _METADATA_TYPES:
        if str(arrow) in spellings:
            return kind
    if pa.types.is_timestamp(arrow):
        return "timestamp"
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return "strings"
    raise SchemaMismatch(f"column {name!r} has type {arrow}, which a filter cannot use")


def _check_type(column: str, arrow: pa.DataType, kind: MetadataType) -> None:
    if _metadata_type(column, arrow) != kind:
        article = "an array of strings" if kind == "strings" else f"a {kind}"
        raise SchemaMismatch(f"column {column!r} must be {article}, it is {arrow}")


def _row_hash(row: Mapping[str, object]) -> str:
    """SHA-256 over names and values; repr keeps types apart (1, '1' and 1.0 differ)."""
    text = "\x1f".join(f"{name}={value!r}" for name, value in row.items())
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
