"""Large changes, spilled to the disk part by part before one publish makes them visible at once.

No more than one part is in memory, and a process that is killed finds the parts again that it had
written: a document is known by its id and its content hash, whatever version of the table it was
read from. Parts hold rows as they came: only the whole change is trained and built, once, because
training part by part and then again for their merge cost 1.4 times as much.

    <home>/staging/<settings>/<part>/documents.arrow, passages.arrow, vectors.npy, staged.json
"""

import hashlib
import logging
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vector_index import disk
from vector_index.checks import check_delta
from vector_index.errors import IndexCorrupt, WriteFailed
from vector_index.kinds.vectors_file import VectorsFile, open_vectors, write_vectors
from vector_index.manifest import FileEntry, IndexSettings, file_entry
from vector_index.passages import Base, IndexDelta, IndexVersion, SourceVersion, empty_delta
from vector_index.publish import sync_new
from vector_index.segment import owners_of, read_arrow, rows_of, write_arrow

STAGING = "staging"
_STAGED = "staged.json"
_DOCUMENTS, _PASSAGES = "documents.arrow", "passages.arrow"
_JOINED = "joined"
_log = logging.getLogger(__name__)

_FILES = TypeAdapter(dict[str, FileEntry])
_SETTINGS = TypeAdapter(IndexSettings)

PublishStaged = Callable[[IndexDelta, SourceVersion, Base], IndexVersion]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part on the disk, memory-mapped. wanted: int64, positions of documents still wanted."""

    documents: pa.Table
    passages: pa.Table
    vectors: NDArray[np.float32]
    wanted: NDArray[np.int64]

    def cut_down(self) -> "_Part":
        """Only what is wanted of it; itself, still mapped, where that is all."""
        if len(self.wanted) == self.documents.num_rows:
            return self
        documents = self.documents.take(pa.array(self.wanted))
        rows = rows_of(owners_of(self.documents, self.passages), self.wanted)
        passages = self.passages.take(pa.array(rows))
        return _Part(documents, passages, self.vectors[rows], np.arange(len(self.wanted)))


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
        self._parts: list[_Part] = []
        for other in _folders(home / STAGING):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        for folder in _folders(self._folder):
            self._take_up(folder)

    def kept(self) -> Collection[str]:
        """As `Staging.kept`."""
        return self._kept

    def add(self, delta: IndexDelta) -> None:
        """As `Staging.add`. Raises InvalidDelta, WriteFailed."""
        check_delta(delta, self._settings)
        folder = self._folder / uuid.uuid4().hex[:12]
        try:
            folder.mkdir(parents=True)
            write_arrow(folder / _DOCUMENTS, delta.documents)
            write_arrow(folder / _PASSAGES, delta.passages)
            write_vectors(folder, delta.vectors)
            disk.replace_text(folder / _STAGED, _FILES.dump_json(sync_new(folder, {})).decode())
        except OSError as exc:
            shutil.rmtree(folder, ignore_errors=True)
            raise WriteFailed(f"a part of {self._settings.name!r} was not staged: {exc}") from exc
        self._accept(folder)

    def publish(
        self, removed: frozenset[str], source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """As `Staging.publish`; on an error the parts stay for the next attempt."""
        return self._publish(replace(self._joined(), removed=removed), source, base)

    def _joined(self) -> IndexDelta:
        """All parts as one change, mapped and not in memory."""
        parts = [part.cut_down() for part in self._parts]
        nothing = empty_delta(self._settings.metadata_columns, self._settings.embedder.dim)
        documents = pa.concat_tables([nothing.documents, *(part.documents for part in parts)])
        passages = pa.concat_tables([nothing.passages, *(part.passages for part in parts)])
        if len(parts) < 2:
            vectors = parts[0].vectors if parts else nothing.vectors
            return IndexDelta(documents, passages, vectors, frozenset())
        joined = self._folder / _JOINED
        try:
            shutil.rmtree(joined, ignore_errors=True)
            joined.mkdir()
            with VectorsFile(joined, passages.num_rows, self._settings.embedder.dim) as file:
                for part in parts:
                    file.append(part.vectors)
        except OSError as exc:
            raise WriteFailed(f"parts of {self._settings.name!r} were not joined: {exc}") from exc
        return IndexDelta(documents, passages, open_vectors(joined), frozenset())

    def _take_up(self, folder: Path) -> None:
        """A part of an earlier attempt, if it is whole and any of it is still wanted."""
        try:
            for name, entry in _FILES.validate_json((folder / _STAGED).read_bytes()).items():
                if file_entry(folder / name) != entry:
                    raise IndexCorrupt(f"{name} differs from its checksum")
            wanted = self._accept(folder)
        except (OSError, ValidationError, IndexCorrupt) as exc:
            _log.info("staged_part_dropped folder=%s reason=%s", folder.name, exc)
            wanted = set()
        self._kept |= wanted
        if not wanted:
            shutil.rmtree(folder, ignore_errors=True)

    def _accept(self, folder: Path) -> set[str]:
        """Counts the part in; says which of its documents are wanted and were missing."""
        documents = read_arrow(folder / _DOCUMENTS)
        pairs = zip(*(column.to_pylist() for column in documents.columns), strict=True)
        wanted = {}
        for place, (key, value) in enumerate(pairs):
            if self._missing.get(key) == value:
                del self._missing[key]
                wanted[key] = place
        if wanted:
            places = np.array(list(wanted.values()), np.int64)
            passages = read_arrow(folder / _PASSAGES)
            self._parts.append(_Part(documents, passages, open_vectors(folder), places))
        return set(wanted)


def forget_staged(home: Path) -> None:
    """Removes whatever is staged: another change was published, or this one."""
    shutil.rmtree(home / STAGING, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _fingerprint(settings: IndexSettings) -> str:
    """The memory budget may differ: it is for the whole change, when that is built."""
    form = _SETTINGS.dump_json(replace(settings, memory_bytes=None))
    return hashlib.sha256(form).hexdigest()[:16]
