"""Durable files: what is named is complete, and what is complete stays."""

import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_READ_BYTES = 1 << 20
# NumPy reads a header with ast.literal_eval, which raises SystemError now and then when two
# threads are in it at once (CPython 3.11 shares its recursion counter; seen with two readers).
_HEADERS = threading.Lock()


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def load_array(path: Path, *, is_mapped: bool = False) -> NDArray[Any]:
    """The array of a .npy file; is_mapped: read-only, its pages shared between processes."""
    with _HEADERS:
        array: NDArray[Any] = np.load(
            path, mmap_mode="r" if is_mapped else None, allow_pickle=False
        )
    return array


def sync_file(path: Path) -> None:
    """Returns once the file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Returns once the folder's entries (names, renames) are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Syncs every file and folder below and including `folder`."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(root) / name)
        sync_folder(Path(root))


def replace_text(path: Path, text: str) -> None:
    """Replaces the file in one step: readers see the old or the new text, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Gives an immutable file a second name; copies it where the disk has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
