"""The folder of a writer's log files: one a tail, named by the first change it may hold."""

from collections.abc import Iterator
from pathlib import Path

from vector_index import disk
from vector_index.errors import WriteFailed
from vector_index.manifest import IndexSettings
from vector_index.wal import Change, Log, read_log

LOGS = "wal"


class Logs:
    """`<home>/wal`. Files are removed once a generation holds every change in them."""

    def __init__(self, home: Path, settings: IndexSettings, *, is_synced: bool) -> None:
        self._folder = home / LOGS
        self._settings = settings
        self._is_synced = is_synced
        self._open: Log | None = None

    def replay(self, *, after: int) -> Iterator[Change]:
        """The logged changes with a higher sequence number than `after`, oldest first."""
        for path in self._files():
            for change in read_log(path, self._settings.metadata_columns):
                if change.sequence > after:
                    yield change

    def append(self, change: Change) -> None:
        """Returns once the change is logged. Raises WriteFailed, and then it is not logged."""
        if self._open is None:
            self._open = self._begin(change.sequence)
        self._open.append(change)

    def rotate(self) -> None:
        """The next change begins a new file.

        Not after a log that could not be repaired: the next file could be the same one again.
        """
        if self._open is not None and self._open.is_sound:
            self.close()

    def close(self) -> None:
        """Lets go of the open file."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def remove(self, *, up_to: int) -> None:
        """Removes the files that begin at or before this change: it is in a generation."""
        gone = [path for path in self._files() if int(path.stem) <= up_to]
        for path in gone:
            path.unlink()
        if self._open is not None and self._open.path in gone:
            self.close()
        if gone:
            disk.sync_folder(self._folder)

    def _begin(self, sequence: int) -> Log:
        path = self._folder / f"{sequence:020d}.wal"
        try:
            if not self._folder.is_dir():
                self._folder.mkdir()
                disk.sync_folder(self._folder.parent)
            return Log(path, is_synced=self._is_synced)
        except OSError as exc:
            raise WriteFailed(f"{path.name} could not be begun: {exc}; make room") from exc

    def _files(self) -> list[Path]:
        return _files_in(self._folder)


def has_changes(home: Path) -> bool:
    """Whether a writer's log may hold changes that are in no generation."""
    return bool(_files_in(home / LOGS))


def _files_in(folder: Path) -> list[Path]:
    """The log files, oldest first. What somebody set aside under another name is not one."""
    return sorted(path for path in folder.glob("*.wal") if path.stem.isdecimal())
