"""A Delta table, on a disk or in an object store, read at one pinned version."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.errors import SourceUnreadable, TableNotFound
from pipelines.sources.columns import check_columns, fingerprint, metadata_types
from pipelines.sources.delta_log import Commit, DeltaLog, Mark
from pipelines.sources.delta_snapshot import (
    DeltaSnapshot,
    check_readable,
    newest_commit,
    translated,
    unreadable,
)
from pipelines.sources.messages import in_one_line
from pipelines.sources.protocol import ChangedKeys, ColumnMapping, Doubt, Snapshot
from vector_index.passages import Lag, MetadataType, SourceVersion

FEED = "delta.enableChangeDataFeed"


@dataclass(frozen=True, slots=True)
class _Newest:
    """What was found when the table was opened last; good for as long as the mark is the newest."""

    mark: Mark
    version: SourceVersion
    metadata: Mapping[str, MetadataType]


class DeltaSource:
    """A TableSource over a Delta table. storage_options: as deltalake takes them.

    Every call opens the table anew where it has changed, so the object may be shared by threads.
    """

    def __init__(
        self,
        path: Path | str,
        mapping: ColumnMapping,
        *,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.mapping = mapping
        self._options = dict(storage_options or {})
        self._lock = threading.Lock()
        self._newest: _Newest | None = None

    def metadata_types(self) -> dict[str, MetadataType]:
        """The filterable type of each mapped metadata column. Raises SchemaMismatch."""
        return dict(self._look().metadata)

    def version(self) -> SourceVersion:
        """The newest committed version: two commit files are looked at, no more.

        Raises TableNotFound, SchemaMismatch, SourceUnreadable.
        """
        return self._look().version

    def lag(self, indexed: SourceVersion) -> Lag:
        """How far behind the newest commit an index of `indexed` is."""
        newest = self.version()
        if newest == indexed:
            return Lag(0, 0.0)
        behind = newest.version - indexed.version
        # The same number may be that of another history: the table was put back and written on.
        if newest.table_id != indexed.table_id or behind <= 0:
            return Lag(None, _age(newest.committed_at))
        with translated(self.path):
            oldest = self._log().commit(indexed.version + 1)
        return Lag(behind, _age(oldest.committed_at if oldest else newest.committed_at))

    def snapshot(self) -> DeltaSnapshot:
        """The newest version, pinned.

        Raises TableNotFound, SchemaMismatch, TableNotSupported, SourceUnreadable.
        """
        table = self._open()
        with translated(self.path):
            check_readable(table, self.path)
            self._schema(table)
            return DeltaSnapshot(
                self._source_version(table), table, table.to_pyarrow_dataset(), self.mapping
            )

    def changed_keys(self, since: SourceVersion, to: Snapshot) -> ChangedKeys | Doubt:
        """The keys in the change data feed after `since`, or why it cannot be relied on.

        `to` is a snapshot of this source. Values are never taken from the feed.
        """
        assert isinstance(to, DeltaSnapshot)
        with translated(self.path):
            commits = self._commits(since, to)
            if isinstance(commits, Doubt):
                return commits
            touching = [commit.version for commit in commits if commit.changes_rows]
            rows = to.dataset.count_rows()
            if not touching:
                return ChangedKeys(frozenset(), rows)
            return self._feed(touching[0], touching[-1], to, rows)

    def _commits(self, since: SourceVersion, to: DeltaSnapshot) -> list[Commit] | Doubt:
        """The commits after `since`, where each of them leaves the feed trustworthy."""
        newest = to.version
        if since.table_id != newest.table_id:
            return Doubt(f"the table was recreated: it was {since.table_id}")
        if since.version > newest.version:
            return Doubt(f"the table went back from version {since.version} to {newest.version}")
        if since.schema_fingerprint != newest.schema_fingerprint:
            return Doubt("the mapped columns, their types or the mapping have changed")
        if to.table.metadata().configuration.get(FEED) != "true":
            return Doubt(f"the table keeps no change data feed ({FEED} is not true)")
        log = self._log()
        last = log.commit(since.version)
        if last is None or last.committed_at != since.committed_at:
            return Doubt(f"commit {since.version} is not, or no longer, the one that is indexed")
        commits = []
        for version in range(since.version + 1, newest.version + 1):
            commit = log.commit(version)
            if commit is None:
                return Doubt(f"commit {version} is gone from the log")
            if doubt := commit.doubt():
                return Doubt(doubt)
            commits.append(commit)
        return commits

    def _feed(self, first: int, last: int, to: DeltaSnapshot, rows: int) -> ChangedKeys | Doubt:
        keys: set[str] = set()
        key = self.mapping.key
        try:
            for batch in pa.RecordBatchReader.from_stream(
                to.table.load_cdf(first, last, columns=[key])
            ):
                keys.update(batch.column(batch.schema.get_field_index(key)).to_pylist())
        except Exception as exc:  # noqa: BLE001 - deltalake raises a plain Exception after a vacuum
            return Doubt(
                f"the feed of versions {first} to {last} cannot be read: {in_one_line(exc)}"
            )
        if None in keys:
            return Doubt(f"the feed of versions {first} to {last} has a null key")
        return ChangedKeys(frozenset(keys), rows)

    def _look(self) -> _Newest:
        with self._lock, translated(self.path):
            if self._newest is None or not self._is_current(self._newest):
                self._newest = None
                self._newest = self._read_newest()
            return self._newest

    def _is_current(self, newest: _Newest) -> bool:
        try:
            return self._log().is_newest(newest.mark)
        except (DeltaError, OSError):  # opening the table anew says what is wrong
            return False

    def _read_newest(self) -> _Newest:
        table = self._open()
        types = metadata_types(self._schema(table), self.mapping)
        mark = self._log().mark(table.version())
        if mark is None:
            raise SourceUnreadable(
                f"table {self.path} has no file for its newest commit, {table.version()}; "
                f"restore it, or write to the table once more"
            )
        return _Newest(mark, self._source_version(table), types)

    def _open(self) -> DeltaTable:
        try:
            return DeltaTable(str(self.path), storage_options=self._options or None)
        except TableNotFoundError as exc:
            raise TableNotFound(
                f"no Delta table at {self.path}; check the index's source.path ({in_one_line(exc)})"
            ) from exc
        except DeltaError as exc:
            raise unreadable(self.path, exc) from exc

    def _log(self) -> DeltaLog:
        return DeltaLog(str(self.path), self._options)

    def _schema(self, table: DeltaTable) -> pa.Schema:
        schema = pa.schema(table.schema().to_arrow())
        check_columns(schema, self.mapping, self.path)
        return schema

    def _source_version(self, table: DeltaTable) -> SourceVersion:
        schema = pa.schema(table.schema().to_arrow())
        return SourceVersion(
            table_id=str(table.metadata().id),
            version=table.version(),
            schema_fingerprint=fingerprint(schema, self.mapping),
            committed_at=newest_commit(self._log(), table).committed_at,
        )


def _age(moment: datetime) -> float:
    """Seconds since then; 0.0 where a clock is ahead of ours."""
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())
