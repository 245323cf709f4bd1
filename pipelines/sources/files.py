"""The files under a location, on a local disk or in an object store, each with a content tag."""

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipelines.errors import SourceUnreadable, TableNotFound

# Two writes within one tick of the file system's clock leave the same times. The tick is 1 to
# 10 ms; a file younger than this is looked at again once it is older.
_CLOCK_TICK_S = 0.02


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file. `path` is relative to the location; `tag` differs whenever the content does."""

    path: str
    size_bytes: int
    tag: str
    modified_at: datetime


class FileStore(Protocol):
    """The files under one location, which is a folder, a prefix or a single file."""

    @property
    def url(self) -> str:
        """The location, resolved: the same place is spelled one way only."""

    def files(self) -> Iterator[StoredFile]:
        """Every file, in no order; those hidden by a leading `.` or `_` are left out.

        Raises TableNotFound where there is no such folder, SourceUnreadable.
        """

    def look(self, path: str) -> StoredFile | None:
        """The file as it is now, None where it is gone."""

    def open(self, path: str) -> pa.NativeFile:
        """The file, to be read. Raises FileNotFoundError and what the store raises."""


def is_hidden(name: str) -> bool:
    """Whether writers mean a file or folder to be left alone: `_SUCCESS`, `.part.crc`, `_tmp/`."""
    return name.startswith((".", "_")) and "=" not in name


class LocalFiles:
    """Files on a local disk."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()

    @property
    def url(self) -> str:
        return self._path.as_uri()

    def files(self) -> Iterator[StoredFile]:
        if not self._path.exists():
            raise TableNotFound(f"no file or folder at {self._path}; check the index's source")
        if self._path.is_file():
            found = self.look(self._path.name)
            if found is not None:
                yield found
            return
        for path in _walked(self._path):
            found = self.look(path.relative_to(self._path).as_posix())
            if found is not None:
                yield found

    def look(self, path: str) -> StoredFile | None:
        try:
            held = _settled(self._at(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise SourceUnreadable(f"{self._at(path)} cannot be read: {exc.strerror}") from exc
        if not stat.S_ISREG(held.st_mode):
            return None
        # ctime cannot be set back, as mtime is by tools that copy times; the inode tells a
        # replaced file from its like.
        tag = f"{held.st_ino:x}-{held.st_mtime_ns:x}-{held.st_ctime_ns:x}"
        modified = datetime.fromtimestamp(held.st_mtime, UTC)
        return StoredFile(path, held.st_size, tag, modified)

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(str(self._at(path)))

    def _at(self, path: str) -> Path:
        return self._path if self._path.is_file() else self._path / path


def _walked(top: Path) -> Iterator[Path]:
    """Every file below that is not hidden; folders behind links too, each once.

    Raises SourceUnreadable for a folder that cannot be read: its rows are not gone.
    """

    def refuse(exc: OSError) -> None:
        raise SourceUnreadable(f"{exc.filename} cannot be read: {exc.strerror}") from exc

    seen = set()
    for folder, folders, names in os.walk(top, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(folder, name) for name in names if not is_hidden(name))


def _settled(path: Path) -> os.stat_result:
    """The file's state, once a later write cannot carry the same times."""
    held = path.stat()
    age_s = time.time() - held.st_ctime
    if 0 <= age_s < _CLOCK_TICK_S:
        time.sleep(_CLOCK_TICK_S - age_s)
        held = path.stat()
    return held
