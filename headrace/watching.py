"""Watchers and single syncs out of settings, and what they last said of themselves.

<state>/watching/<index>.json    replaced once a second at most; whoever syncs writes it
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headrace import indexes
from headrace.settings import Settings
from headrace.state_file import replace_file
from headrace.syncing import run_sync
from llm_endpoint.embedding.protocol import Embedder
from pipelines.engines import Engine
from pipelines.lineage_sender import LineageSender
from pipelines.parts import Progress
from pipelines.sync import SyncReport
from pipelines.watch import SyncState, Watcher
from vector_index.protocol import SyncedIndex

# Padded to one block of the disk, so that another state fits where this one is.
_FILE_BYTES = 4096
_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class LastWord:
    """The state that a watcher or a sync wrote last. is_alive: whether its process still runs."""

    is_alive: bool
    phase: str
    pending_rows: int | None
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
        state=_state(last_word(settings, name)),
    )


def sync_once(
    settings: Settings,
    name: str,
    embedder: Embedder,
    index: SyncedIndex,
    *,
    engine: Engine | None = None,
    on_progress: Progress | None = None,
    lineage: LineageSender | None = None,
) -> SyncReport:
    """As `run_sync`, and `last_word` hears of it, unless a watcher has the word."""
    said = last_word(settings, name)
    file = _file(settings, name)

    def run(progress: Progress) -> SyncReport:
        def told(done: int, total: int) -> None:
            progress(done, total)
            if on_progress is not None:
                on_progress(done, total)

        return run_sync(
            settings, name, index, embedder, engine=engine, on_progress=told, lineage=lineage
        )

    is_watched = said is not None and said.is_alive
    return Watcher(
        indexes.build_source(settings, name),
        run,
        on_change=None if is_watched else lambda state: _write(file, state),
        state=_state(said),
    ).once()


def last_word(settings: Settings, name: str) -> LastWord | None:
    """What the index's watcher or last sync wrote, None where there never was one."""
    try:
        form = json.loads(_file(settings, name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    at = form["last_error_at"]
    is_alive = form["phase"] != "stopped" and _is_running(form["pid"])
    return LastWord(
        is_alive=is_alive,
        # Whoever was killed could not say so.
        phase=form["phase"] if is_alive else "stopped",
        pending_rows=form.get("pending_rows") if is_alive else None,
        failures=form["failures"],
        last_error=form["last_error"],
        last_error_at=None if at is None else datetime.fromisoformat(at),
        rows_per_s=form["rows_per_s"],
        duration_s=form["duration_s"],
    )


def _state(said: LastWord | None) -> SyncState:
    """What is still true for whoever syncs next."""
    if said is None:
        return SyncState()
    return SyncState(
        failures=said.failures,
        last_error=said.last_error,
        last_error_at=said.last_error_at,
        rows_per_s=said.rows_per_s,
        duration_s=said.duration_s,
    )


def _write(file: Path, state: SyncState) -> None:
    form = {
        "pid": os.getpid(),
        "phase": state.phase,
        "pending_rows": state.pending_rows,
        "failures": state.failures,
        "last_error": state.last_error and state.last_error[:_ERROR_CHARACTERS],
        "last_error_at": state.last_error_at and state.last_error_at.isoformat(),
        "rows_per_s": state.rows_per_s,
        "duration_s": state.duration_s,
    }
    replace_file(file, json.dumps(form, ensure_ascii=False), room_bytes=_FILE_BYTES)


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
