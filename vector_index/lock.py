"""Locks of an index: one process, and one thread in it, may hold each of them at a time."""

import fcntl
import os
from pathlib import Path
from typing import ClassVar

from vector_index.errors import IndexBusy


class _Lock:
    """Held from construction to `release`; the kernel releases it when the process dies.

    Raises IndexBusy at once when someone else has it.
    """

    _file: ClassVar[str]
    _doing: ClassVar[str]

    def __init__(self, home: Path, index: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(home / self._file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(self._descriptor)
            raise IndexBusy(
                f"another process is {self._doing} index {index!r}; try again later"
            ) from exc

    def release(self) -> None:
        """Lets the next one in."""
        os.close(self._descriptor)

    def __enter__(self) -> "_Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class WriterLock(_Lock):
    """Held while files of the index change."""

    _file = "LOCK"
    _doing = "publishing to"


class SyncLock(_Lock):
    """Held while an index is made equal to its table, which is mostly reading and embedding."""

    _file = "SYNC"
    _doing = "syncing"
