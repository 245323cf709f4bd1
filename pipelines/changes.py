"""What a sync has to do: the documents to write and to remove, and how that was found out."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from pipelines.sources.keys import collect_hashes
from pipelines.sources.protocol import ChangedKeys, Doubt, Snapshot, TableSource
from vector_index.passages import IndexVersion
from vector_index.protocol import SyncedIndex

Mode = Literal["noop", "incremental", "diff", "rebuild"]

# Of a few rows, finding them costs more than keeping them until they are written.
_KEPT_BYTES = 16_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """hashes: key to content hash of every document to be written, replacing what it was.

    mode: whether only touched keys or all rows were compared; reason: why. rows: the rows of these
    documents, and perhaps of others, where they were few enough to be kept; None to read them.
    released: of the rows set aside, those that the table no longer has, and those that are indexed
    as they are: the sync that mended them died before it could say so.
    """

    hashes: Mapping[str, str]
    removed: frozenset[str]
    mode: Mode
    reason: str
    rows: tuple[pa.RecordBatch, ...] | None = None
    released: frozenset[str] = frozenset()


@dataclass(slots=True)
class Kept:
    """Batches on their way past, kept for as long as they are small."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    size_bytes: int = 0

    def passing(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches, as they come."""
        for batch in batches:
            self.size_bytes += batch.nbytes
            self.batches.append(batch)
            if self.size_bytes > _KEPT_BYTES:
                self.batches.clear()
            yield batch

    def rows(self) -> tuple[pa.RecordBatch, ...] | None:
        """All that passed, None where it was too much."""
        return None if self.size_bytes > _KEPT_BYTES else tuple(self.batches)


def find_changes(
    source: TableSource,
    index: SyncedIndex,
    base: IndexVersion | None,
    snapshot: Snapshot,
    *,
    set_aside: frozenset[str] = frozenset(),
) -> Changes:
    """From what is indexed (`base`) to the snapshot. set_aside: rows that are not to be indexed.

    Incremental where the source vouches for the list of touched keys, and the number of documents
    then comes out right; otherwise the hashes of all rows are compared. Raises BadKeys.
    """
    if base is None or index.count()[0] == 0:
        return _compared(index, snapshot, set_aside, "nothing was indexed yet")
    found = source.changed_keys(base.source, snapshot)
    if found is None:
        return _compared(index, snapshot, set_aside, "the source keeps no record of changes")
    if isinstance(found, ChangedKeys):
        changes = _touched(index, snapshot, found, set_aside)
        if isinstance(changes, Changes):
            return changes
        found = changes
    _log.warning(
        "sync_compares_all_rows index=%s table_version=%d reason=%s",
        base.index, snapshot.version.version, found.reason,
    )  # fmt: skip
    return _compared(index, snapshot, set_aside, found.reason)


def _touched(
    index: SyncedIndex, snapshot: Snapshot, touched: ChangedKeys, set_aside: frozenset[str]
) -> Changes | Doubt:
    """What has become of the touched keys. Values come from the snapshot, so the last one wins."""
    kept = Kept()
    rows = kept.passing(snapshot.rows(touched.keys)) if touched.keys else iter(())
    hashes = collect_hashes(rows, snapshot.mapping, snapshot.version.table_id)
    indexed = index.hashes_of(touched.keys)
    removed = frozenset(indexed.keys() - hashes.keys())
    waiting = set_aside - touched.keys
    overdue = waiting & index.hashes_of(waiting).keys()
    documents = index.count()[0] - len(removed) + len(hashes.keys() - indexed.keys())
    documents += len(waiting - overdue)
    if documents != touched.rows:
        return Doubt(
            f"the feed leads to {documents} documents, and the table has {touched.rows} rows"
        )
    changed = _differing(hashes, indexed)
    reason = f"{len(touched.keys)} keys were touched"
    released = ((set_aside & touched.keys) - hashes.keys()) | overdue
    return Changes(changed, removed, "incremental", reason, kept.rows(), released)


def _compared(
    index: SyncedIndex, snapshot: Snapshot, set_aside: frozenset[str], reason: str
) -> Changes:
    indexed, hashes = index.documents(), snapshot.hashes()
    removed = frozenset(indexed.keys() - hashes.keys())
    released = frozenset(
        key for key in set_aside if key not in hashes or indexed.get(key) == hashes[key]
    )
    return Changes(_differing(hashes, indexed), removed, "diff", reason, released=released)


def _differing(hashes: Mapping[str, str], indexed: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in hashes.items() if indexed.get(key) != value}
