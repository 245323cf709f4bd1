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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.errors import DocumentTooSlow, DocumentUnreadable, MissingExtra
from pipelines.sources.document_child import REPLY, REQUEST
from pipelines.sources.html import html_text

_CHILD = Path(__file__).with_name("document_child.py")


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """What one document may take. memory_bytes: address space of the child that parses it."""

    timeout_s: float = 60.0
    memory_bytes: int = 4 << 30


def check_installed() -> None:
    """Raises MissingExtra where documents cannot be parsed."""
    if importlib.util.find_spec("xberg") is None:
        raise MissingExtra(
            "documents are parsed by xberg, which is not installed: "
            "pip install 'headrace[documents]'"
        )


class DocumentParser:
    """Parses one document at a time in a child process, which is replaced when it ends."""

    def __init__(self, limits: ParserLimits = ParserLimits()) -> None:
        """Raises MissingExtra."""
        check_installed()
        self._timeout_s = limits.timeout_s
        self._memory_bytes = limits.memory_bytes
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
        any text (pictures are not read), or the parser crashed; DocumentTooSlow.
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
                raise DocumentTooSlow(f"parsing the document took more than {self._timeout_s:g} s")
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


def _death(child: subprocess.Popen[bytes]) -> str:
    code = child.wait()
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
