"""One immutable segment of a generation: vectors, passages, documents, tombstones."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.disk import load_array
from vector_index.filters import Filter
from vector_index.kinds import KINDS, SegmentVectors
from vector_index.manifest import IndexSettings, SegmentEntry
from vector_index.masks import AccessColumns, Columns, Mask
from vector_index.passages import Access, Passage, passage_from_row
from vector_index.places import Places, open_places, write_places

_DELETED = "deleted.npy"


@dataclass
class Segment:
    """Opened for reading; nothing here changes after construction but caches of derived values.

    deleted: int64, the positions in `documents` that a later generation replaced or removed.
    """

    id: str
    vectors: SegmentVectors
    passages: pa.Table
    documents: pa.Table
    deleted: NDArray[np.int64]
    places: Places
    has_tenant: bool
    has_groups: bool

    @cached_property
    def live(self) -> Mask | None:
        """Which passages are not tombstoned, bool (rows,); None when all are live."""
        if not len(self.deleted):
            return None
        gone = self.documents["document_id"].take(pa.array(self.deleted))
        dead = pc.is_in(self.passages["document_id"], value_set=gone.combine_chunks())
        return np.asarray(~dead.to_numpy().astype(np.bool_))

    @cached_property
    def live_documents(self) -> pa.Table:
        """The documents table without the tombstoned ones."""
        keep = np.ones(self.documents.num_rows, np.bool_)
        keep[self.deleted] = False
        return self.documents.filter(pa.array(keep))

    def visible(self, access: Access) -> Mask:
        """Which rows this asker may see."""
        return self._access.mask(access)

    def satisfying(self, where: Filter) -> Mask:
        """Which rows satisfy the filter."""
        return self._columns.mask(where)

    def find(self, document_id: str, ordinal: int) -> int:
        """The row of a live passage, -1 when it is not here or tombstoned."""
        row = self.places.find(document_id, ordinal)
        return row if row >= 0 and (self.live is None or self.live[row]) else -1

    def passages_at(self, rows: list[int]) -> list[Passage]:
        """The passages stored at these rows, in their order."""
        return [passage_from_row(row) for row in self.passages.take(rows).to_pylist()]

    def without(self, document_ids: pa.Array) -> NDArray[np.int64]:
        """The tombstones once these documents are gone too, sorted int64."""
        gone = pc.is_in(self.documents["document_id"], value_set=document_ids)
        rows = np.flatnonzero(gone.to_numpy().astype(np.bool_))
        return np.union1d(self.deleted, rows).astype(np.int64)

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self.passages["metadata"])

    @cached_property
    def _access(self) -> AccessColumns:
        tenant = self.passages["tenant"] if self.has_tenant else None
        groups = self.passages["allowed_groups"] if self.has_groups else None
        return AccessColumns(tenant, groups, self.passages.num_rows)


def write_segment(
    folder: Path, segment_id: str, vectors: SegmentVectors, passages: pa.Table, documents: pa.Table
) -> None:
    """Writes a new segment's immutable files into a generation's folder."""
    home = folder / "segments" / segment_id
    home.mkdir(parents=True)
    vectors.write(home)
    (folder / "passages").mkdir(exist_ok=True)
    _write_arrow(folder / "passages" / f"{segment_id}.arrow", passages)
    _write_arrow(folder / "passages" / f"{segment_id}.documents.arrow", documents)
    write_places(folder / "passages" / f"{segment_id}.places.npy", passages)


def write_tombstones(folder: Path, segment_id: str, deleted: NDArray[np.int64]) -> None:
    """Writes the one part of a segment that differs between generations."""
    np.save(folder / "segments" / segment_id / _DELETED, deleted, allow_pickle=False)


def immutable_files(folder: Path, segment_id: str) -> list[Path]:
    """The files of a segment that every later generation shares."""
    home = folder / "segments" / segment_id
    inner = [path for path in home.iterdir() if path.name != _DELETED]
    return [*inner, *(folder / "passages").glob(f"{segment_id}.*")]


def open_segment(folder: Path, entry: SegmentEntry, settings: IndexSettings) -> Segment:
    """Opens a segment memory-mapped; checksums have been verified by then."""
    home = folder / "segments" / entry.id
    passages = _read_arrow(folder / "passages" / f"{entry.id}.arrow")
    return Segment(
        id=entry.id,
        vectors=KINDS[entry.kind].open(home),
        passages=passages,
        documents=_read_arrow(folder / "passages" / f"{entry.id}.documents.arrow"),
        deleted=load_array(home / _DELETED),
        places=open_places(folder / "passages" / f"{entry.id}.places.npy", passages),
        has_tenant=settings.has_tenant,
        has_groups=settings.has_groups,
    )


def _write_arrow(path: Path, table: pa.Table) -> None:
    # One record batch: a row is then one offset, and columns open zero-copy.
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(table.num_rows, 1))


def _read_arrow(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
