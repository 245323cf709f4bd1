"""PDF, Office, mail and other documents of a column as text; needs the extra `documents`."""

import contextlib
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipelines.errors import DocumentUnreadable, MissingExtra, SchemaMismatch
from pipelines.sources.document_child import REPLY, REQUEST
from pipelines.sources.html import html_text

_CHILD = Path(__file__).with_name("document_child.py")
_MAX_FILE_BYTES = 256_000_000


class DocumentParser:
    """Parses one document at a time in a child process, which is replaced when it ends."""

    def __init__(self, *, timeout_s: float = 60.0, memory_bytes: int = 4 << 30) -> None:
        """memory_bytes: address space of the child. Raises MissingExtra."""
        if importlib.util.find_spec("xberg") is None:
            raise MissingExtra(
                "documents are parsed by xberg, which is not installed: "
                "pip install 'headrace[documents]'"
            )
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def text(self, content: bytes) -> str:
        """The document's text, its headings set off as by `plain_text`; no bytes are no text.

        Its kind is told by its content. Raises DocumentUnreadable: no known kind, damaged, without
        any text (pictures are not read), too slow, or the parser crashed.
        """
        if not content:
            return ""
        if content.startswith(b"%PDF-") and b"%%EOF" not in content:
            raise DocumentUnreadable("the document cannot be parsed: it is a PDF without its end")
        with self._lock:
            child = self._child or self._started()
            try:
                is_parsed, said = self._asked(child, content)
            except DocumentUnreadable:
                self._end()
                raise
        if not is_parsed:
            raise DocumentUnreadable(f"the document cannot be parsed: {said}")
        if not (text := html_text(said)):
            raise DocumentUnreadable(
                "the document holds no text: it is damaged, or pictures only, which are not read"
            )
        return text

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        # -P: the folder of the script holds modules that are named like those of the library.
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD), str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._child

    def _asked(self, child: subprocess.Popen[bytes], content: bytes) -> tuple[bool, str]:
        assert child.stdin is not None
        deadline = time.monotonic() + self._timeout_s
        # A child that has died says so by the end of its output.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(REQUEST.pack(self._timeout_s, len(content)) + content)
            child.stdin.flush()
        is_parsed, size = REPLY.unpack(self._read(child, REPLY.size, deadline))
        return is_parsed, self._read(child, size, deadline).decode()

    def _read(self, child: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        assert child.stdout is not None
        pieces, missing = [], size
        while missing:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([child.stdout], [], [], left_s)[0]:
                raise DocumentUnreadable(
                    f"parsing the document took more than {self._timeout_s:g} s"
                )
            piece = os.read(child.stdout.fileno(), min(missing, 1 << 20))
            if not piece:
                raise DocumentUnreadable(f"the parser died of the document ({_death(child)})")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            # What it was not yet given is of no use to anyone.
            with contextlib.suppress(BrokenPipeError):
                child.communicate()


def document_texts(
    batch: pa.RecordBatch, column: str, parser: DocumentParser, *, folder: Path | None = None
) -> list[str | DocumentUnreadable]:
    """The text of each row's document, or why it has none; a null is an empty text.

    column: of bytes, the documents themselves, or of strings, their paths below `folder`. Raises
    SchemaMismatch for another type, or for paths without a folder.
    """
    values = batch.column(column)
    kind = values.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [_text(value, parser) for value in values]
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise SchemaMismatch(f"column {column!r} must be bytes or paths of documents, it is {kind}")
    if folder is None:
        raise SchemaMismatch(
            f"column {column!r} holds paths of documents, but no folder is set that they are below"
        )
    return [_text(value, parser, folder.resolve()) for value in values]


def _text(
    value: pa.Scalar, parser: DocumentParser, folder: Path | None = None
) -> str | DocumentUnreadable:
    held = value.as_py()
    if held is None:
        return ""
    try:
        return parser.text(held if folder is None else _file_bytes(held, folder))
    except DocumentUnreadable as exc:
        return exc


def _file_bytes(path: str, folder: Path) -> bytes:
    """A table's rows are not to choose which of this machine's files become searchable."""
    try:
        file = (folder / path).resolve()
        if not file.is_relative_to(folder):
            raise DocumentUnreadable(f"path {path!r} leads out of {folder}")
        if (size := file.stat().st_size) > _MAX_FILE_BYTES:
            raise DocumentUnreadable(f"{path!r} has {size} bytes, {_MAX_FILE_BYTES} are allowed")
        return file.read_bytes()
    except (OSError, ValueError) as exc:
        raise DocumentUnreadable(f"{path!r} cannot be read: {exc}") from exc


def _death(child: subprocess.Popen[bytes]) -> str:
    code = child.wait()
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
