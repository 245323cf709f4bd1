"""Durable files: what is named is complete, and what is complete stays."""

import errno
import hashlib
import mmap
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

_READ_BYTES = 1 << 20
# NumPy reads a header with ast.literal_eval, which raises SystemError now and then when two
# threads are in it at once (CPython 3.11 shares its recursion counter; seen with two readers).
_HEADERS = threading.Lock()
_NO_HARD_LINKS = (errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


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


def forget_mapped(array: NDArray[Any]) -> None:
    """Gives back the memory of a mapped file's array; what is read again comes from the file.

    An array that is not mapped stays as it is.
    """
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


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


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file of these bytes; not yet synced."""
    with path.open("wb") as file:
        file.write(content)


def replace_text(path: Path, text: str) -> None:
    """Replaces the file in one step: readers see the old or the new text, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write_bytes(temporary, text.encode())
    sync_file(temporary)
    temporary.rename(path)
    sync_folder(path.parent)


def link_or_copy(source: Path, target: Path) -> bool:
    """Gives an immutable file a second name; copies it where the disk has no hard links.

    Says whether it was linked; a copy still needs to be synced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        shutil.copy2(source, target)
        return False
    return True


def inode_of(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def append_file(path: Path) -> BinaryIO:
    """Opens a file for appending, unbuffered, and creates it where it is not there."""
    file = path.open("ab", buffering=0)
    return cast(BinaryIO, file)


def append(file: BinaryIO, pieces: Sequence[bytes | memoryview]) -> None:
    """Writes every byte at the end of the file."""
    rest = memoryview(b"".join(pieces))
    while len(rest):
        rest = rest[os.write(file.fileno(), rest) :]


def sync_data(file: BinaryIO) -> None:
    """Returns once the file's bytes and its length are on the disk."""
    getattr(os, "fdatasync", os.fsync)(file.fileno())


def size_of(file: BinaryIO) -> int:
    """The open file's size in bytes."""
    return os.fstat(file.fileno()).st_size


def cut(file: BinaryIO, size_bytes: int) -> None:
    """Cuts the open file to this size, durably."""
    os.ftruncate(file.fileno(), size_bytes)
    os.fsync(file.fileno())


def cut_file(path: Path, size_bytes: int) -> None:
    """Cuts the file to this size, durably."""
    with path.open("r+b") as file:
        cut(file, size_bytes)
