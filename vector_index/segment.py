"""One immutable segment of a generation: vectors, passages, documents, and the way between them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.disk import load_array
from vector_index.errors import IndexCorrupt, WriteFailed
from vector_index.keys import Keys, open_keys, write_keys
from vector_index.kinds import KINDS, Choice, SegmentVectors, choose_kind, min_rows
from vector_index.manifest import FileEntry, IndexSettings, Manifest, SegmentEntry
from vector_index.rows import PassageRows

DELETED = "deleted.npy"
_OWNERS = "owners.npy"


@dataclass(frozen=True, slots=True)
class Segment:
    """Opened for reading; every part of it is memory-mapped where its format allows.

    documents: DOCUMENT_SCHEMA. owners: int32 (passages,), ascending: each passage's document.
    """

    id: str
    vectors: SegmentVectors
    rows: PassageRows
    documents: pa.Table
    owners: NDArray[np.int32]
    keys: Keys

    def rows_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these documents, in the order given, int64."""
        return rows_of(self.owners, documents)

    def row_of(self, document: int, ordinal: int) -> int:
        """The row of one passage of the document at this position, -1 when it has no such one."""
        rows = self.rows_of(np.array([document]))
        ordinals = self.rows.table["ordinal"]
        # Nearly always the passages of a document are numbered from 0.
        for row in (rows[ordinal : ordinal + 1], rows):
            for candidate in row.tolist():
                if ordinals[candidate].as_py() == ordinal:
                    return int(candidate)
        return -1

    def count_rows(self, documents: NDArray[np.int64]) -> int:
        """How many passages these documents have."""
        first, last = _ranges(self.owners, documents)
        return int((last - first).sum())


@dataclass(frozen=True, slots=True)
class Content:
    """What a new segment is made of. vectors: float32 (passages, dim)."""

    documents: pa.Table
    passages: pa.Table
    vectors: NDArray[np.float32]


def new_segment_id() -> str:
    """A segment's name for life; generations share segments by it."""
    return uuid.uuid4().hex[:12]


def owners_of(documents: pa.Table, passages: pa.Table) -> NDArray[np.int32]:
    """int32 (passages,): each passage's position in `documents`."""
    places = {key: place for place, key in enumerate(documents["document_id"].to_pylist())}
    owners = (places[key] for key in passages["document_id"].to_pylist())
    return np.fromiter(owners, np.int32, passages.num_rows)


def rows_of(owners: NDArray[np.int32], documents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows whose owner is one of these documents, document by document."""
    first, last = _ranges(owners, documents)
    counts = last - first
    before = np.cumsum(counts) - counts
    rows: NDArray[np.int64] = np.arange(int(counts.sum())) + np.repeat(first - before, counts)
    return rows


def build_vectors(
    vectors: NDArray[np.float32],
    settings: IndexSettings,
    *,
    of: int,
    like: SegmentVectors | None = None,
) -> SegmentVectors:
    """The vectors, float32 (n, dim), of a segment that holds n of an index's `of` rows."""
    return KINDS[segment_kind(settings, len(vectors), of=of).kind].build(vectors, like=like)


def segment_kind(settings: IndexSettings, rows: int, *, of: int) -> Choice:
    """How a segment that holds this many of an index's `of` rows is stored, and why.

    `flat` where the index's kind cannot train on so few rows. `auto` gives every segment the
    share of the memory budget that it has of the rows.
    """
    dim, kind, budget = settings.embedder.dim, settings.kind, settings.memory_bytes
    if kind == "auto":
        share = None if budget is None else budget * rows // max(of, 1)
        return choose_kind(rows, dim, memory_bytes=share)
    if rows < min_rows(kind):
        return Choice("flat", f"{rows:,} x {dim}: {kind} needs {min_rows(kind)} rows to train on.")
    return Choice(kind, "as configured")


def write_segment(
    folder: Path,
    segment_id: str,
    *,
    documents: pa.Table,
    passages: pa.Table,
    vectors: SegmentVectors,
) -> None:
    """Writes a new segment's immutable files into a generation's folder.

    Raises WriteFailed, also when what is read back is not what was written: a full disk can
    cut FAISS's file short without an error.
    """
    home = folder / "segments" / segment_id
    home.mkdir(parents=True)
    (folder / "passages").mkdir(exist_ok=True)
    vectors.write(home)
    np.save(home / _OWNERS, owners_of(documents, passages), allow_pickle=False)
    write_keys(home, documents["document_id"].to_pylist())
    write_arrow(folder / "passages" / f"{segment_id}.arrow", passages)
    write_arrow(folder / "passages" / f"{segment_id}.documents.arrow", documents)
    _read_back(home, vectors)


def write_tombstones(folder: Path, segment_id: str, deleted: NDArray[np.int64]) -> None:
    """Writes the one part of a segment that differs between generations."""
    home = folder / "segments" / segment_id
    home.mkdir(parents=True, exist_ok=True)
    np.save(home / DELETED, deleted, allow_pickle=False)


def read_tombstones(folder: Path, segment_id: str) -> NDArray[np.int64]:
    """The positions of a segment's documents that are dead in this generation, ascending."""
    return load_array(folder / "segments" / segment_id / DELETED)


def immutable_files(manifest: Manifest, segment_id: str) -> Mapping[str, FileEntry]:
    """The files of a segment that every later generation shares."""
    mine = (f"segments/{segment_id}/", f"passages/{segment_id}.")
    return {
        name: entry
        for name, entry in manifest.files.items()
        if name.startswith(mine) and not name.endswith(f"/{DELETED}")
    }


def open_segment(folder: Path, entry: SegmentEntry, settings: IndexSettings) -> Segment:
    """Opens a segment memory-mapped; checksums have been verified by then."""
    home = folder / "segments" / entry.id
    documents = read_arrow(folder / "passages" / f"{entry.id}.documents.arrow")
    passages = read_arrow(folder / "passages" / f"{entry.id}.arrow")
    owners = load_array(home / _OWNERS, is_mapped=True)
    return Segment(
        id=entry.id,
        vectors=KINDS[entry.kind].open(home),
        rows=PassageRows(passages, settings),
        documents=documents,
        owners=owners.view(np.ndarray),
        keys=open_keys(home, documents["document_id"]),
    )


def write_arrow(path: Path, table: pa.Table) -> None:
    """Writes the table as an Arrow file; nothing is synced."""
    # One record batch: a row is then one offset, and columns open zero-copy.
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(table.num_rows, 1))


def read_arrow(path: Path) -> pa.Table:
    """The written table, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _ranges(
    owners: NDArray[np.int32], documents: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Same dtype, or NumPy converts the whole of `owners` on every call.
    wanted = documents.astype(np.int32)
    return owners.searchsorted(wanted, "left"), owners.searchsorted(wanted, "right")


def _read_back(home: Path, vectors: SegmentVectors) -> None:
    if not vectors.count:
        return
    last = np.array([vectors.count - 1])
    try:
        written = KINDS[vectors.kind].open(home)
        is_whole = written.count == vectors.count and np.array_equal(
            written.reconstruct(last), vectors.reconstruct(last)
        )
    except (RuntimeError, ValueError, IndexCorrupt) as exc:
        raise WriteFailed(
            f"{home.name}: vectors cannot be read back: {exc}; is the disk full?"
        ) from exc
    if not is_whole:
        raise WriteFailed(
            f"{home.name}: vectors read back differ from those written; is the disk full?"
        )
