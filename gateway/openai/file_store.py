"""Files of clients on disk: each whole or not there, also after a power cut.

<folder>/file-<24 hex>/content, info.json
<folder>/.draft-…                             being written; cleared at the next start
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

import orjson

from gateway.openai.errors import FileUnknown, StorageFailed

_ID = re.compile(r"file-[0-9a-f]{24}")
_DRAFT = ".draft-"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """created_at: Unix time in seconds."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str

    def form(self) -> dict[str, object]:
        """As OpenAI shows it."""
        return {"object": "file", "status": "processed", **asdict(self)}


@dataclass(slots=True)
class Draft:
    """A file that is being written: to `content`, which `FileStore.keep` takes over."""

    folder: Path
    content: BinaryIO


class FileStore:
    """Files by id. Methods block on the disk: not for the event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear_drafts(self) -> None:
        """Removes what a process that ended in between had begun."""
        for draft in self._folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft)

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A new file; gone afterwards unless `keep` took it. Raises StorageFailed."""
        folder = self._folder / f"{_DRAFT}{token_hex(12)}"
        try:
            folder.mkdir(parents=True, mode=0o700)
            with (folder / "content").open("wb") as content:
                yield Draft(folder, content)
        except OSError as exc:
            raise StorageFailed(exc) from exc
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, draft: Draft, *, filename: str, purpose: str) -> FileInfo:
        """Ends the draft as a file."""
        draft.content.flush()
        os.fsync(draft.content.fileno())
        size = draft.content.tell()
        info = FileInfo(new_file_id(), size, int(time.time()), filename, purpose)
        self._publish(draft.folder, info)
        return info

    def adopt(self, content: Path, info: FileInfo) -> None:
        """A file that is complete already, under an id that was chosen before; done once.

        `content` itself stays, so that whoever is killed can do it again.
        """
        if (self._folder / info.id).is_dir():
            return
        with self.draft() as draft:
            draft.content.close()
            (draft.folder / "content").unlink()
            _link(content, draft.folder / "content")
            self._publish(draft.folder, info)

    def info(self, file_id: str) -> FileInfo:
        """Raises FileUnknown."""
        try:
            return FileInfo(**orjson.loads((self._at(file_id) / "info.json").read_bytes()))
        except FileNotFoundError as exc:
            raise FileUnknown(file_id) from exc

    def content(self, file_id: str) -> Path:
        """Where its bytes are. Raises FileUnknown."""
        self.info(file_id)
        return self._at(file_id) / "content"

    def all(self) -> list[FileInfo]:
        """Every file, newest first."""
        if not self._folder.is_dir():
            return []
        names = [entry.name for entry in self._folder.iterdir() if _ID.fullmatch(entry.name)]
        found = [self.info(name) for name in names]
        return sorted(found, key=lambda file: file.id, reverse=True)

    def delete(self, file_id: str) -> None:
        """Raises FileUnknown."""
        self.info(file_id)
        # Renamed first: half of a removal must not look like a file.
        gone = self._folder / f"{_DRAFT}{token_hex(12)}"
        self._at(file_id).rename(gone)
        shutil.rmtree(gone)

    def _publish(self, folder: Path, info: FileInfo) -> None:
        write_synced(folder / "info.json", orjson.dumps(asdict(info)))
        sync_folder(folder)
        folder.rename(self._folder / info.id)
        sync_folder(self._folder)

    def _at(self, file_id: str) -> Path:
        if not _ID.fullmatch(file_id):
            raise FileUnknown(file_id)
        return self._folder / file_id


def _link(content: Path, to: Path) -> None:
    try:
        os.link(content, to)
    except OSError:  # a file system without links
        shutil.copyfile(content, to)
        with to.open("rb") as copied:
            os.fsync(copied.fileno())


def new_file_id() -> str:
    return f"file-{ordered_hex()}"


def ordered_hex() -> str:
    """24 hexadecimal digits that no two things share, in the order in which they are made."""
    return f"{time.time_ns():016x}{token_hex(4)}"


def write_synced(file: Path, content: bytes) -> None:
    """Writes a file that is on the disk when this returns."""
    with file.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
