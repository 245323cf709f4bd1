"""Large changes, written part by part before one publish makes them visible, all at once.

Every part is a finished segment below `<home>/staging`, so no more than one is in memory, and a
process that is killed finds the parts again that it had written: a document is known by its id
and its content hash, whatever version of the table it was read from. Nobody searches them there.

    <home>/staging/<settings>/<part>/segments/…, passages/…, staged.json
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vector_index import disk
from vector_index.checks import check_delta
from vector_index.errors import IndexCorrupt, WriteFailed
from vector_index.manifest import FileEntry, IndexSettings, SegmentEntry, file_entry
from vector_index.passages import Base, IndexDelta, IndexVersion, SourceVersion
from vector_index.publish import sync_new
from vector_index.segment import (
    Segment,
    build_vectors,
    new_segment_id,
    open_segment,
    write_segment,
)

STAGING = "staging"
_STAGED = "staged.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Staged:
    """A part on the disk. dead: int64, positions of documents that are no longer wanted."""

    segment: Segment
    folder: Path
    files: Mapping[str, FileEntry]
    dead: NDArray[np.int64]

    def passages(self) -> pa.Table:
        """What is wanted of it; memory-mapped where that is all."""
        if not len(self.dead):
            return self.segment.rows.table
        alive = np.setdiff1d(np.arange(self.segment.documents.num_rows), self.dead)
        return self.segment.rows.table.take(pa.array(self.segment.rows_of(alive)))

    def document_ids(self) -> list[str]:
        """The documents that are wanted of it."""
        alive = np.setdiff1d(np.arange(self.segment.documents.num_rows), self.dead)
        ids: list[str] = self.segment.documents["document_id"].take(pa.array(alive)).to_pylist()
        return ids


@dataclass(frozen=True, slots=True)
class _Record:
    entry: SegmentEntry
    files: Mapping[str, FileEntry]


_RECORDS = TypeAdapter(_Record)
_SETTINGS = TypeAdapter(IndexSettings)


Parts = Sequence[Staged]
PublishStaged = Callable[[Parts, frozenset[str], SourceVersion, Base], IndexVersion]


class StagedParts:
    """The parts of one large change: `wanted` (id to content hash) says of which documents.

    One at a time, by whoever holds the index's lease.
    """

    def __init__(
        self,
        home: Path,
        settings: IndexSettings,
        wanted: Mapping[str, str],
        publish: PublishStaged,
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._folder = home / STAGING / _fingerprint(settings)
        self._missing = dict(wanted)
        self._kept: set[str] = set()
        self._parts: list[Staged] = []
        for other in _folders(home / STAGING):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        for folder in _folders(self._folder):
            self._take_up(folder)

    def kept(self) -> Collection[str]:
        """As `Staging.kept`."""
        return self._kept

    def add(self, delta: IndexDelta, *, of: int) -> None:
        """As `Staging.add`. Raises InvalidDelta, WriteFailed."""
        check_delta(delta, self._settings)
        segment_id = new_segment_id()
        folder = self._folder / segment_id
        try:
            folder.mkdir(parents=True)
            vectors = build_vectors(delta.vectors, self._settings, of=of)
            entry = SegmentEntry(
                segment_id, vectors.kind, delta.passages.num_rows, delta.documents.num_rows, 0
            )
            write_segment(
                folder, segment_id,
                documents=delta.documents, passages=delta.passages, vectors=vectors,
            )  # fmt: skip
            del vectors
            record = _Record(entry, sync_new(folder, {}))
            disk.replace_text(folder / _STAGED, _RECORDS.dump_json(record).decode())
        except OSError as exc:
            shutil.rmtree(folder, ignore_errors=True)
            raise WriteFailed(f"a part of {self._settings.name!r} was not staged: {exc}") from exc
        self._accept(folder, record)

    def publish(
        self, removed: frozenset[str], source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """As `Staging.publish`; on an error the parts stay for the next attempt."""
        return self._publish(self._parts, removed, source, base)

    def _take_up(self, folder: Path) -> None:
        """A part of an earlier attempt, if it is whole and any of it is still wanted."""
        try:
            record = _RECORDS.validate_json((folder / _STAGED).read_bytes())
            for name, entry in record.files.items():
                if file_entry(folder / name) != entry:
                    raise IndexCorrupt(f"{name} differs from its checksum")
            before = len(self._missing)
            found = self._accept(folder, record)
            self._kept |= set(found.document_ids())
            is_wanted = len(self._missing) < before
        except (OSError, ValidationError, IndexCorrupt) as exc:
            _log.info("staged_part_dropped folder=%s reason=%s", folder.name, exc)
            is_wanted = False
        if not is_wanted:
            self._parts = [part for part in self._parts if part.folder != folder]
            shutil.rmtree(folder, ignore_errors=True)

    def _accept(self, folder: Path, record: _Record) -> Staged:
        segment = open_segment(folder, record.entry, self._settings)
        pairs = zip(*(column.to_pylist() for column in segment.documents.columns), strict=True)
        dead = []
        for place, (key, value) in enumerate(pairs):
            if self._missing.get(key) == value:
                del self._missing[key]
            else:
                dead.append(place)
        part = Staged(segment, folder, record.files, np.array(dead, np.int64))
        self._parts.append(part)
        return part


def forget_staged(home: Path) -> None:
    """Removes whatever is staged: another change was published, or this one."""
    shutil.rmtree(home / STAGING, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _fingerprint(settings: IndexSettings) -> str:
    """The memory budget may differ: each segment says for itself how it is stored."""
    form = _SETTINGS.dump_json(replace(settings, memory_bytes=None))
    return hashlib.sha256(form).hexdigest()[:16]
