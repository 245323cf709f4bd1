"""One immutable segment of a generation: vectors, passages, documents, and the way between them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.errors import IndexCorrupt
from vector_index.keys import Keys, open_keys, write_keys
from vector_index.kinds import KINDS, SegmentVectors
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

    def count_rows(self, documents: NDArray[np.int64]) -> int:
        """How many passages these documents have."""
        first, last = _ranges(self.owners, documents)
        return int((last - first).sum())


@dataclass(frozen=True, slots=True)
class Content:
    """What a new segment is made of: an IndexDelta's three parts, or rows taken from segments."""

    documents: pa.Table
    passages: pa.Table
    vectors: NDArray[np.float32]

    @property
    def owners(self) -> NDArray[np.int32]:
        """int32 (passages,): the document of each passage, which are grouped in that order."""
        return owners_of(self.documents, self.passages)


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
    return np.arange(int(counts.sum())) + np.repeat(first - before, counts)


def write_segment(folder: Path, segment_id: str, content: Content, kind: str) -> str:
    """Writes a new segment's immutable files into a generation's folder; returns its kind.

    Raises IndexCorrupt when what is read back is not what was written: a full disk can cut
    FAISS's file short without an error.
    """
    home = folder / "segments" / segment_id
    home.mkdir(parents=True)
    (folder / "passages").mkdir(exist_ok=True)
    vectors = KINDS[kind].build(content.vectors)
    vectors.write(home)
    np.save(home / _OWNERS, content.owners, allow_pickle=False)
    write_keys(home, content.documents["document_id"].to_pylist())
    _write_arrow(folder / "passages" / f"{segment_id}.arrow", content.passages)
    _write_arrow(folder / "passages" / f"{segment_id}.documents.arrow", content.documents)
    _read_back(home, content.vectors, vectors.kind)
    return vectors.kind


def write_tombstones(folder: Path, segment_id: str, deleted: NDArray[np.int64]) -> None:
    """Writes the one part of a segment that differs between generations."""
    home = folder / "segments" / segment_id
    home.mkdir(parents=True, exist_ok=True)
    np.save(home / DELETED, deleted, allow_pickle=False)


def read_tombstones(folder: Path, segment_id: str) -> NDArray[np.int64]:
    """The positions of a segment's documents that are dead in this generation, ascending."""
    found: NDArray[np.int64] = np.load(
        folder / "segments" / segment_id / DELETED, allow_pickle=False
    )
    return found


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
    documents = _read_arrow(folder / "passages" / f"{entry.id}.documents.arrow")
    passages = _read_arrow(folder / "passages" / f"{entry.id}.arrow")
    owners = np.load(home / _OWNERS, mmap_mode="r", allow_pickle=False)
    return Segment(
        id=entry.id,
        vectors=KINDS[entry.kind].open(home),
        rows=PassageRows(passages, settings),
        documents=documents,
        owners=owners.view(np.ndarray),
        keys=open_keys(home, documents["document_id"]),
    )


def _ranges(
    owners: NDArray[np.int32], documents: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Same dtype, or NumPy converts the whole of `owners` on every call.
    wanted = documents.astype(np.int32)
    return owners.searchsorted(wanted, "left"), owners.searchsorted(wanted, "right")


def _read_back(home: Path, vectors: NDArray[np.float32], kind: str) -> None:
    if not len(vectors):
        return
    last = np.array([len(vectors) - 1])
    try:
        written = KINDS[kind].open(home)
        is_whole = written.count == len(vectors) and np.array_equal(
            written.reconstruct(last), vectors[last]
        )
    except (RuntimeError, ValueError) as exc:
        raise IndexCorrupt(f"{home.name}: vectors cannot be read back: {exc}") from exc
    if not is_whole:
        raise IndexCorrupt(f"{home.name}: vectors read back differ from those written")


def _write_arrow(path: Path, table: pa.Table) -> None:
    # One record batch: a row is then one offset, and columns open zero-copy.
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(table.num_rows, 1))


def _read_arrow(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
