"""Small files beside an index that say how its syncs are doing."""

import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


def replace_file(file: Path, text: str, *, room_bytes: int = 0) -> None:
    """Writes the file whole, so that nobody reads half of it.

    room_bytes: what the file is filled up to with spaces, so that the next text, if it fits, can be
    said on a full disk too, in place. Lost in a crash of the machine, no harm is done: what a sync
    says of itself is worth less than the sync, which must not end for it.
    """
    content = text.encode("utf-8", "replace").ljust(room_bytes)
    draft = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(file)
    except OSError:
        _write_in_place(file, draft, content)


def _write_in_place(file: Path, draft: Path, content: bytes) -> None:
    """A full disk takes no new file, and that is what has to be said: the old one has the room."""
    try:
        draft.unlink(missing_ok=True)
        with file.open("r+b", buffering=0) as held:
            held.write(content)
    except OSError as exc:
        _log.warning("state_not_written file=%s reason=%s", file, exc)
