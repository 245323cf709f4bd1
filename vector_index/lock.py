"""The writer's lock: one process, and one writer in it, may change an index at a time."""

import fcntl
import os
from pathlib import Path

from vector_index.errors import IndexBusy

_LOCK = "LOCK"


class WriterLock:
    """Held from construction to `release`; the kernel releases it when the process dies.

    Raises IndexBusy at once when someone else has it.
    """

    def __init__(self, home: Path, index: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(home / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._descriptor)
            if not isinstance(exc, BlockingIOError):
                raise
            raise IndexBusy(
                f"another writer is at work on index {index!r}; try again once it is done"
            ) from exc

    def release(self) -> None:
        """Lets the next writer in."""
        os.close(self._descriptor)

    def __enter__(self) -> "WriterLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
