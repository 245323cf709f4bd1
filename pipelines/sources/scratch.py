"""Folders for what does not fit into memory, gone with whoever made them, killed or not."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "spill-"


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """An empty folder below `parent` (None: the system's place), removed afterwards.

    It is locked for as long as it is used, so that `sweep` can tell it from one whose process
    was killed. The kernel frees the lock.
    """
    if parent is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    sweep(parent)
    with _locked(parent):
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
        held = os.open(folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def sweep(parent: Path) -> None:
    """Removes the folders below `parent` whose processes are dead, with the rows in them."""
    with _locked(parent):
        for folder in parent.glob(f"{_PREFIX}*"):
            if not _is_used(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(parent: Path) -> Iterator[None]:
    """Nobody else makes or removes a folder meanwhile: one is not swept before it is locked."""
    held = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _is_used(folder: Path) -> bool:
    try:
        held = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # its process has just removed it
        return True
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(held)
    return False
