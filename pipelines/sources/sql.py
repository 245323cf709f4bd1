"""The answer of a SQL query over Delta and Parquet tables, as a table of its own."""

import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import SourceUnreadable
from pipelines.sources.columns import fingerprint, metadata_types
from pipelines.sources.conforming import conform, read_types
from pipelines.sources.fingerprints import as_version, is_same_state, short_id
from pipelines.sources.inputs import DeltaInput, ParquetInput, PinnedInput, open_input
from pipelines.sources.keys import collect_hashes
from pipelines.sources.parquet import matching_rows
from pipelines.sources.protocol import ColumnMapping, Snapshot
from pipelines.sources.query import answer, check_query, locked_duckdb, schema_of
from vector_index.passages import Lag, MetadataType, SourceVersion

# A row group of the spool: what is passed over at once where no row of it is wanted.
_GROUP_ROWS = 8192
_WHERE = "the source's SQL"


class SqlSource:
    """One SELECT over named tables, run by DuckDB in this process and read-only.

    Its version names the query and the states of its tables, and is no counter. What would answer
    differently for the same tables is refused: see `check_query`.
    """

    def __init__(
        self,
        sql: str,
        tables: Mapping[str, str],
        mapping: ColumnMapping,
        *,
        options: Mapping[str, str] | None = None,
        scratch: Path | None = None,
    ) -> None:
        """tables: the name that the query uses to the path or URL of a Delta or Parquet table.

        options: as deltalake's storage_options, for URLs. scratch: a folder for temporary files,
        None for the system's; the answer is kept there while a snapshot of it is held.
        """
        self.mapping = mapping
        self._sql = sql
        self._tables = dict(tables)
        self._options = dict(options or {})
        self._scratch = scratch
        self._inputs: dict[str, DeltaInput | ParquetInput] | None = None
        self._bound: tuple[tuple[str, ...], pa.Schema] | None = None

    def metadata_types(self) -> dict[str, MetadataType]:
        """The filterable type of each mapped metadata column. Raises SchemaMismatch, BadQuery."""
        return metadata_types(self._schema(self._pin()), self.mapping)

    def version(self) -> SourceVersion:
        """The query and its tables as they are now; no row is read.

        Raises BadQuery, TableNotFound, SourceUnreadable, SchemaMismatch.
        """
        return self._version(self._pin())

    def lag(self, indexed: SourceVersion) -> Lag:
        """Seconds since the newest commit to any of the tables, 0.0 where all are indexed."""
        now = self.version()
        if is_same_state(now, indexed):
            return Lag(0, 0.0)
        return Lag(None, max(0.0, (datetime.now(UTC) - now.committed_at).total_seconds()))

    def snapshot(self) -> "SqlSnapshot":
        """The query's answer, computed once and kept in a temporary file until it is let go.

        Raises as `version`, and SourceChanged where Parquet files changed while it ran.
        """
        pinned = self._pin()
        version = self._version(pinned)
        types = read_types(self._schema(pinned), self.mapping, _WHERE)
        batches = (conform(batch, types) for batch in self._answer(pinned))
        spool = _spooled(batches, types, self._scratch)
        answered = SqlSnapshot(version, self.mapping, types, spool)
        for name, table in self._opened().items():
            table.check_same(pinned[name])
        return answered

    def changed_keys(self, since: SourceVersion, to: Snapshot) -> None:
        """None: which rows of the answer a change reaches is not known."""
        return None

    def _opened(self) -> Mapping[str, DeltaInput | ParquetInput]:
        if self._inputs is None:
            check_query(self._sql)
            self._inputs = {
                name: open_input(location, self._options)
                for name, location in sorted(self._tables.items())
            }
        return self._inputs

    def _pin(self) -> dict[str, PinnedInput]:
        return {name: table.pin() for name, table in self._opened().items()}

    def _version(self, pinned: Mapping[str, PinnedInput]) -> SourceVersion:
        schema = self._schema(pinned)
        read_types(schema, self.mapping, _WHERE)
        states = [f"{name} {table.identity}" for name, table in pinned.items()]
        # Another DuckDB may compute another answer.
        content = short_id("", self._sql, duckdb.__version__, *states)
        return SourceVersion(
            table_id=short_id("sql", self._sql, *(f"{n}={p}" for n, p in self._tables.items())),
            version=as_version(content),
            schema_fingerprint=fingerprint(schema, self.mapping),
            committed_at=max((t.committed_at for t in pinned.values()), default=_NEVER),
        )

    def _schema(self, pinned: Mapping[str, PinnedInput]) -> pa.Schema:
        states = tuple(table.identity for table in pinned.values())
        if self._bound is None or self._bound[0] != states:
            datasets = {name: table.dataset for name, table in pinned.items()}
            with locked_duckdb(datasets, self._scratch) as connection:
                self._bound = (states, schema_of(connection, self._sql))
        return self._bound[1]

    def _answer(self, pinned: Mapping[str, PinnedInput]) -> Iterator[pa.RecordBatch]:
        datasets = {name: table.dataset for name, table in pinned.items()}
        with locked_duckdb(datasets, self._scratch) as connection:
            try:
                yield from answer(connection, self._sql, self.mapping.batch_rows(_GROUP_ROWS))
            except (pa.ArrowException, OSError) as exc:
                said = " ".join(str(exc).split())[:300]
                raise SourceUnreadable(f"a table of {_WHERE} cannot be read: {said}") from exc


class SqlSnapshot:
    """One answer of the query, in a file that has no name and ends with this object."""

    def __init__(
        self,
        version: SourceVersion,
        mapping: ColumnMapping,
        types: Mapping[str, pa.DataType],
        spool: IO[bytes],
    ) -> None:
        self.version = version
        self.mapping = mapping
        self._types = types
        self._spool = spool
        weakref.finalize(self, spool.close)

    def hashes(self) -> dict[str, str]:
        """Key to content hash of all mapped columns. Raises BadKeys."""
        return collect_hashes(self.rows(None), self.mapping, _WHERE)

    def rows(self, keys: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        """The mapped columns of the rows with these keys, in batches of at most 1,024 rows."""
        wanted = None if keys is None else pa.array(sorted(keys), pa.string())
        parquet = pq.ParquetFile(pa.PythonFile(self._spool, mode="r"))
        yield from matching_rows(parquet, self._types, self.mapping.key, wanted, {})


_NEVER = datetime.fromtimestamp(0, UTC)


def _spooled(
    batches: Iterable[pa.RecordBatch], types: Mapping[str, pa.DataType], scratch: Path | None
) -> IO[bytes]:
    """The batches in a nameless file: whatever ends this process, nothing of it stays on disk."""
    spool = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (the snapshot closes it)
    schema = pa.schema(list(types.items()))
    try:
        with pq.ParquetWriter(spool, schema, compression="lz4") as writer:
            for batch in batches:
                writer.write_table(pa.Table.from_batches([batch], schema))
    except BaseException:
        spool.close()
        raise
    return spool
