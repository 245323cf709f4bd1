"""One version of a Delta table: its rows in bounded batches, all of them or those of some keys."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError

from pipelines.errors import SourceUnreadable, TableNotSupported
from pipelines.sources.delta_log import Commit, DeltaLog
from pipelines.sources.keys import collect_hashes
from pipelines.sources.messages import in_one_line
from pipelines.sources.protocol import ColumnMapping
from vector_index.passages import SourceVersion

# Rows in memory at a time, and how many batches Arrow may read ahead of us.
_BATCH_ROWS = 8192
_READ_AHEAD = 2
# Arrow otherwise holds all the row group's columns: 230 MB more for 100,000 rows x 384.
_STREAMED = pa_dataset.ParquetFragmentScanOptions(
    use_buffered_stream=True, buffer_size=8_000_000, pre_buffer=False
)


@dataclass(frozen=True, slots=True)
class DeltaSnapshot:
    """One version of a Delta table; a VACUUM may take its files away (SourceUnreadable)."""

    version: SourceVersion
    table: DeltaTable
    dataset: pa_dataset.FileSystemDataset
    mapping: ColumnMapping

    def hashes(self) -> Mapping[str, str]:
        """Key to content hash of every row. Raises BadKeys for null or duplicate keys."""
        return collect_hashes(self.rows(None), self.mapping, self.table.table_uri)

    def rows(self, keys: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        """The mapped columns of the rows with these keys, None for all, in bounded batches."""
        with translated(self.table.table_uri):
            if keys is None:
                for fragment in self.dataset.get_fragments():
                    yield from self._batches(fragment)
            elif keys:
                yield from self._matching(sorted(keys))

    def _matching(self, keys: list[str]) -> Iterator[pa.RecordBatch]:
        """Files and row groups whose bounds leave out every key are not read.

        Arrow's own pushdown is not used: it fails on files whose writer kept string_view, which
        deltalake's merge does.
        """
        wanted, key = pa.array(keys, pa.string()), self.mapping.key
        bounds = self._file_bounds()
        for fragment in self.dataset.get_fragments():
            if not _may_hold(bounds.get(fragment.path), keys):
                continue
            groups = [
                group.id for group in fragment.row_groups if _may_hold(_bounds(group, key), keys)
            ]
            if groups:
                for batch in self._batches(fragment.subset(row_group_ids=groups)):
                    found = batch.filter(pc.is_in(batch.column(key), wanted))
                    if found.num_rows:
                        yield found

    def _batches(self, fragment: pa_dataset.Fragment) -> Iterator[pa.RecordBatch]:
        found = fragment.scanner(
            schema=self.dataset.schema,
            columns=self.mapping.columns(),
            batch_size=self.mapping.batch_rows(_BATCH_ROWS),
            batch_readahead=_READ_AHEAD,
            fragment_scan_options=_STREAMED,
        )
        return (batch for batch in found.to_batches() if batch.num_rows)

    def _file_bounds(self) -> dict[str, tuple[str, str]]:
        """Least and greatest key of each file whose commit tells them, by path."""
        actions = pa.table(self.table.get_add_actions(flatten=True))
        columns = [f"min.{self.mapping.key}", f"max.{self.mapping.key}"]
        if not set(columns) <= set(actions.column_names):
            return {}
        low, high = (actions[column].to_pylist() for column in columns)
        return {
            path: (a, b)
            for path, a, b in zip(actions["path"].to_pylist(), low, high, strict=True)
            if a is not None and b is not None
        }


def check_readable(table: DeltaTable, path: object) -> None:
    """Raises TableNotSupported for what deltalake would read wrongly and not refuse."""
    mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise TableNotSupported(
            f"table {path} maps columns by {mode} (delta.columnMapping.mode), which cannot be "
            f"read; write it anew without column mapping"
        )


def newest_commit(log: DeltaLog, table: DeltaTable) -> Commit:
    """What the commit of the table's version says. Raises SourceUnreadable where that is nothing:
    deltalake takes an empty file for a commit that did nothing."""
    commit = log.commit(table.version())
    if commit is None or commit.is_empty:
        raise SourceUnreadable(
            f"commit {table.version()} of table {table.table_uri} is "
            f"{'gone' if commit is None else 'an empty file'}, so what it did is unknown; "
            f"remove the file or write to the table once more, then sync again"
        )
    return commit


@contextmanager
def translated(table: object) -> Iterator[None]:
    """What deltalake and Arrow raise, as SourceUnreadable or TableNotSupported."""
    try:
        yield
    except DeltaProtocolError as exc:
        raise TableNotSupported(
            f"table {table} cannot be read: {in_one_line(exc)}; rewrite it without that feature "
            f"(deletion vectors: set delta.enableDeletionVectors to false, then REORG TABLE "
            f"APPLY (PURGE))"
        ) from exc
    except (DeltaError, OSError, pa.ArrowException) as exc:
        raise unreadable(table, exc) from exc


def unreadable(table: object, exc: Exception) -> SourceUnreadable:
    """The named error of a table that cannot be read."""
    text = in_one_line(exc)
    if any(word in text for word in ("Column mapping", "nsupported", "not supported")):
        return TableNotSupported(f"table {table} cannot be read: {text}")
    return SourceUnreadable(f"table {table} cannot be read: {text}")


def _bounds(group: pa_dataset.RowGroupInfo, key: str) -> tuple[str, str] | None:
    """Least and greatest key of a row group, None where they are not told."""
    try:
        told = (group.statistics or {}).get(key, {})
    except (ValueError, OverflowError):  # another column's: a date of no calendar, no UTF-8
        return None
    return (told["min"], told["max"]) if told.keys() >= {"min", "max"} else None


def _may_hold(bounds: tuple[str, str] | None, keys: list[str]) -> bool:
    """Whether any of the sorted keys lies within; unknown bounds may hold anything.

    Strings sort here as their UTF-8 bytes do there; a cut-off maximum was rounded up.
    """
    if bounds is None:
        return True
    at = bisect_left(keys, bounds[0])
    return at < len(keys) and keys[at] <= bounds[1]
