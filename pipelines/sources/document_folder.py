"""The folder that documents' paths are below, on a disk or in an object store."""

import hashlib
import os.path
import posixpath
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import PathRefused
from pipelines.sources.files import FileStore, StoredFile
from pipelines.sources.location import open_files

_MAX_FILE_BYTES = 256_000_000
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The files there were, by path below the folder. fingerprint: 16 hex digits, equal only for
    equal content."""

    files: Mapping[str, StoredFile]
    fingerprint: str
    newest_at: datetime


class DocumentFolder:
    """Lists and reads documents. Threads share one: it is listed for all of them at once.

    location: a path or URL. options: as deltalake's storage_options, for a URL. look_every_s: how
    old a listing may be for which no fresh one is asked.
    """

    def __init__(
        self, location: str, options: Mapping[str, str], *, look_every_s: float = 10.0
    ) -> None:
        is_local = "://" not in location
        self.location = str(Path(location).resolve()) if is_local else location.rstrip("/")
        self._root = Path(self.location) if is_local else None
        self._options = options
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._listed: tuple[float, FolderListing] | None = None
        self._opened: FileStore | None = None

    def listing(self, *, is_fresh: bool = False) -> FolderListing:
        """The files there are. Raises TableNotFound for no folder, SourceUnreadable."""
        with self._lock:
            now = time.monotonic()
            if self._listed is None or is_fresh or now - self._listed[0] >= self._look_every_s:
                self._listed = (now, self._list())
            return self._listed[1]

    def mark(self, path: str, listing: FolderListing) -> str:
        """What changes whenever the document at a row's path does: size and the store's tag."""
        try:
            file = listing.files.get(self._name(path))
        except PathRefused:
            return "outside"
        return "missing" if file is None else f"{file.size_bytes}-{file.tag}"

    def read(self, path: str, listing: FolderListing) -> bytes:
        """The document at a row's path.

        A table's rows are not to choose which of this machine's files become searchable: raises
        PathRefused for a path that leads out of the folder, by a link too, or to no file of the
        listing. Raises SourceUnreadable where the store does not answer.
        """
        name = self._name(path)
        file = listing.files.get(name)
        if file is None:
            raise PathRefused(
                f"there is no file {path!r} below {self.location}; names that begin with . or _ "
                f"are left out"
            )
        if self._root is not None and not (self._root / name).resolve().is_relative_to(self._root):
            raise self._outside(path)
        if file.size_bytes > _MAX_FILE_BYTES:
            raise PathRefused(
                f"{path!r} has {file.size_bytes:,} bytes, {_MAX_FILE_BYTES:,} are allowed"
            )
        try:
            if self._root is not None:
                return (self._root / name).read_bytes()
            with self._store().open(name) as handle:
                return bytes(handle.read())
        except OSError as exc:
            raise PathRefused(f"{path!r} cannot be read: {exc}") from exc

    def _name(self, path: str) -> str:
        """The path below the folder; it may be spelled whole, and still be below."""
        if self._root is None:
            below = path.removeprefix(f"{self.location}/")
            is_whole = "://" in below
        else:
            below = os.path.relpath(path, self._root) if path.startswith("/") else path
            is_whole = False
        name = posixpath.normpath(below)
        if is_whole or name.startswith("/") or name == ".." or name.startswith("../"):
            raise self._outside(path)
        return name

    def _outside(self, path: str) -> PathRefused:
        return PathRefused(f"path {path!r} leads out of {self.location}")

    def _store(self) -> FileStore:
        if self._opened is None:
            self._opened = open_files(self.location, self._options)
        return self._opened

    def _list(self) -> FolderListing:
        found = {file.path: file for file in self._store().files()}
        digest = hashlib.sha256()
        for name, file in sorted(found.items()):
            entry = repr((name, file.size_bytes, file.tag))
            digest.update(entry.encode("utf-8", "surrogatepass"))
        newest = max((file.modified_at for file in found.values()), default=_NEVER)
        return FolderListing(found, digest.hexdigest()[:16], newest)
