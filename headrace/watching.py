"""Watchers out of settings, and what they last said of themselves, kept beside the index."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headrace import indexes
from headrace.settings import Settings
from headrace.syncing import run_sync
from llm_endpoint.embedding.protocol import Embedder
from pipelines.lineage_sender import LineageSender
from pipelines.sync import SyncReport
from pipelines.watch import SyncState, Watcher
from vector_index.protocol import SyncedIndex

_log = logging.getLogger(__name__)

# Padded to one block of the disk, so that another state fits where this one is.
_FILE_BYTES = 4096
_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class LastWord:
    """The state that a watcher wrote last. is_alive: whether its process still runs."""

    is_alive: bool
    phase: str
    failures: int
    last_error: str | None
    last_error_at: datetime | None
    rows_per_s: float | None
    duration_s: float | None


def build_watcher(
    settings: Settings,
    name: str,
    embedder: Embedder,
    index: SyncedIndex,
    *,
    on_sync: Callable[[SyncReport], None] | None = None,
    lineage: LineageSender | None = None,
) -> Watcher:
    """Keeps the index equal to its table once it is started; the index is written by it alone."""
    file = _file(settings, name)
    return Watcher(
        indexes.build_source(settings, name),
        lambda progress: run_sync(
            settings, name, index, embedder, on_progress=progress, lineage=lineage
        ),
        on_sync=on_sync,
        on_change=lambda state: _write(file, state),
    )


def last_word(settings: Settings, name: str) -> LastWord | None:
    """What the index's watcher wrote last, None where there never was one."""
    try:
        form = json.loads(_file(settings, name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    at = form["last_error_at"]
    return LastWord(
        is_alive=form["phase"] != "stopped" and _is_running(form["pid"]),
        phase=form["phase"],
        failures=form["failures"],
        last_error=form["last_error"],
        last_error_at=None if at is None else datetime.fromisoformat(at),
        rows_per_s=form["rows_per_s"],
        duration_s=form["duration_s"],
    )


def _write(file: Path, state: SyncState) -> None:
    form = {
        "pid": os.getpid(),
        "phase": state.phase,
        "failures": state.failures,
        "last_error": state.last_error and state.last_error[:_ERROR_CHARACTERS],
        "last_error_at": state.last_error_at and state.last_error_at.isoformat(),
        "rows_per_s": state.rows_per_s,
        "duration_s": state.duration_s,
    }
    content = json.dumps(form, ensure_ascii=False).encode("utf-8", "replace").ljust(_FILE_BYTES)
    draft = file.with_suffix(f".{os.getpid()}")
    # Replaced whole, so that nobody reads half of it; lost in a crash of the machine, no harm is
    # done.
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
    except OSError as exc:  # must not end the watch: the sync is worth more than this
        _log.warning("watch_state_not_written file=%s reason=%s", file, exc)


def _file(settings: Settings, name: str) -> Path:
    return settings.state_dir / "watching" / f"{name}.json"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
