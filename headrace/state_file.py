"""Small files that one process writes for others to look at."""

import os
from pathlib import Path


def replace_file(file: Path, text: str) -> None:
    """Writes the file whole, so that nobody reads half of it; on a full disk, not at all.

    Lost in a crash of the machine, no harm is done: what a sync says of itself is worth less than
    the sync, which must not end for it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError:
        return
