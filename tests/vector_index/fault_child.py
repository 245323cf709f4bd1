"""Runs a writer's working day with a fault at its n-th file operation: a script, not a test.

    python fault_child.py <prepared home> <folder of runs> <kill|full> <first n> <step>

For n = first, first + step, ... until a day passes without reaching its fault:
`<runs>/<n>/docs` is a copy of the prepared index that lived through the fault, and
`<runs>/<n>/acknowledged` has one byte for every change the writer confirmed before it.
`kill` sends SIGKILL to the process. `full` fails the n-th operation, and every one after it that
needs room; then there is room again, and the change that failed is made anew.
Every file operation of Python, NumPy, Arrow and FAISS is counted; those that write a file in
one go leave half of it behind.
"""

import builtins
import errno
import io
import os
import shutil
import signal
import sys
from pathlib import Path

import by_hand
import faiss
import numpy as np
import pyarrow as pa

from vector_index import disk
from vector_index.errors import WriteFailed, WriterClosed
from vector_index.options import WriterOptions
from vector_index.writer import IndexWriter

NEEDS_NO_ROOM = ("rename", "unlink", "rmdir", "remove", "ftruncate", "fsync", "fdatasync")


class Disk:
    """Counts file operations once `is_counting`, and fails the one it was told to."""

    def __init__(self, mode, at):
        self.mode, self.at = mode, at
        self.count = 0
        self.is_counting = False

    def step(self, name, half=None):
        if not self.is_counting:
            return
        self.count += 1
        is_hit = self.count == self.at
        if self.mode == "full" and self.count > self.at:
            is_hit = name not in NEEDS_NO_ROOM
        if not is_hit:
            return
        if half is not None:
            half()
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, f"No space left on device ({name})")

    @property
    def is_reached(self):
        return self.count >= self.at


def install(state):
    for name in ("mkdir", "fsync", "fdatasync", "link", "rename", "ftruncate", "unlink", "rmdir"):
        _wrap(os, name, state)
    real_write = os.write

    def write(descriptor, content):
        state.step("write", lambda: real_write(descriptor, bytes(content[: len(content) // 2])))
        return real_write(descriptor, content)

    os.write = write
    real_open = io.open

    def opened(file, mode="r", *args, **options):
        if any(letter in mode for letter in "wax+"):
            state.step("open")
        return real_open(file, mode, *args, **options)

    io.open = builtins.open = opened
    real_bytes = disk.write_bytes

    def write_bytes(path, content):
        state.step("write_bytes", lambda: real_bytes(path, content[: len(content) // 2]))
        real_bytes(path, content)

    disk.write_bytes = write_bytes
    _wrap_file(np, "save", state, lambda args: args[0])
    _wrap_file(faiss, "write_index", state, lambda args: args[1])
    _wrap_file(pa.ipc, "new_file", state, lambda args: args[0])


def _wrap(module, name, state):
    real = getattr(module, name)

    def operation(*args, **options):
        state.step(name)
        return real(*args, **options)

    setattr(module, name, operation)


def _wrap_file(module, name, state, path_of):
    real = getattr(module, name)

    def operation(*args, **options):
        state.step(name, lambda: Path(path_of(args)).write_bytes(b"half of a"))
        return real(*args, **options)

    setattr(module, name, operation)


def day(writer_at):
    """The changes of one day, each a function of the writer."""
    delta = by_hand.random_delta
    return [
        lambda: writer_at().upsert(delta(["a", "new"], seed=1)),
        lambda: writer_at().delete(["b"]),
        lambda: writer_at().flush(),
        lambda: writer_at().upsert(delta(["c"], seed=2, removed=["new"])),
        lambda: writer_at().publish(delta(["d", "e"], seed=3, removed=["a"]), by_hand.source(1)),
    ]


def live(home, acknowledged, state):
    held = []

    def writer():
        if not held:
            options = WriterOptions(merges=False)
            held.append(IndexWriter(home, by_hand.random_settings(), options=options))
        return held[0]

    file = os.open(acknowledged, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    confirm = os.write
    writer()
    if state is not None:
        install(state)
        state.is_counting = True
    for change in day(writer):
        while True:
            try:
                change()
                break
            except (WriteFailed, WriterClosed) as exc:
                state.is_counting = False
                # Out of room is not the end: the same writer goes on once there is room again.
                if isinstance(exc, WriterClosed):
                    held.pop().close()
        confirm(file, b".")
    state.is_counting = False
    writer().close()


def main(prepared, runs, mode, first, step):
    number = first
    while True:
        run = Path(runs) / str(number)
        shutil.copytree(prepared, run / "docs")
        child = os.fork()
        if child == 0:
            state = Disk(mode, number)
            try:
                live(run / "docs", run / "acknowledged", state)
            except BaseException as exc:
                (run / "failed").write_text(repr(exc))
                raise
            os._exit(0 if state.is_reached else 3)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3:
            return
        number += step


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
