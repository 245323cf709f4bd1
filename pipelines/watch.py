"""Following a table: new commits are noticed by looking at its log, and synced one at a time."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from pipelines.errors import PipelineError, SyncStopped
from pipelines.parts import Progress
from pipelines.sources.protocol import TableSource
from pipelines.sync import SyncReport
from vector_index.passages import Lag, SourceVersion

Phase = Literal["idle", "syncing", "failing", "stopped"]
RunSync = Callable[[Progress], SyncReport]

_TELL_EVERY_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How often to look, and how long to leave a table alone that could not be synced.

    Looking costs a local table half a millisecond, and one in an object store three requests.
    After n failures in a row the pause is between half of and the whole of
    first_pause_s * 2**(n - 1), at most last_pause_s: many watchers do not come back at once.
    """

    poll_s: float = 0.1
    first_pause_s: float = 0.5
    last_pause_s: float = 30.0


@dataclass(frozen=True, slots=True)
class SyncState:
    """What is known of an index that follows its table.

    indexed: the table state that was published last. lag: None where it cannot be told.
    pending_rows: documents that the sync under way has yet to do; None before it knows. on_change
    hears of it once a second.
    last_error: of the newest attempt that failed, kept after a success, which `failures` 0 tells.
    rows_per_s and duration_s: of the last sync that changed anything.
    """

    phase: Phase = "idle"
    indexed: SourceVersion | None = None
    lag: Lag | None = None
    pending_rows: int | None = None
    syncs: int = 0
    failures: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None
    rows_per_s: float | None = None
    duration_s: float | None = None


class Watcher:
    """Syncs whenever the table has a version that was not synced, until it is stopped.

    Commits that arrive during a sync become one next sync: that is all the back-pressure there
    is, and all there need be, since nothing is queued. A rollback by hand stays until the next
    commit. run_sync: one sync, told where to report its progress. on_sync: told of every sync
    that published; on_change: of every new state; both are called on the watcher's thread.
    state: what was known before, as by another process.
    """

    def __init__(
        self,
        source: TableSource,
        run_sync: RunSync,
        *,
        options: WatchOptions | None = None,
        on_sync: Callable[[SyncReport], None] | None = None,
        on_change: Callable[[SyncState], None] | None = None,
        state: SyncState | None = None,
    ) -> None:
        self._source = source
        self._run_sync = run_sync
        self._options = options or WatchOptions()
        self._on_sync = on_sync
        self._on_change = on_change
        self._state = state or SyncState()
        self._told_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="watch-table", daemon=True)

    def start(self) -> None:
        """Watches on a thread of its own until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Ends watching, and a sync under way before it publishes; waits for both."""
        self.tell_to_stop()
        if self._thread.ident is not None:
            self._thread.join()

    def tell_to_stop(self) -> None:
        """As `stop`, without waiting: for a signal handler."""
        self._stopping.set()

    def state(self) -> SyncState:
        """What is known now; the lag is measured by this call."""
        state = self._state
        if state.indexed is None:
            return state
        try:
            return replace(state, lag=self._source.lag(state.indexed))
        except PipelineError:
            return state

    def run(self) -> None:
        """Watches on the caller's thread until it is told to stop."""
        try:
            while not self._stopping.is_set():
                self._stopping.wait(self._look())
        finally:
            self._change(phase="stopped", pending_rows=None)

    def once(self) -> SyncReport:
        """One sync on the caller's thread, whose state is told as that of a watch.

        Raises what the sync raises.
        """
        try:
            return self._sync()
        except Exception as exc:
            self._fail(exc)
            raise
        finally:
            self._change(phase="stopped", pending_rows=None)

    def _look(self) -> float:
        """Syncs if there is reason to; returns the seconds to wait."""
        try:
            if self._source.version() != self._state.indexed:
                self._sync()
        except SyncStopped:
            return 0.0
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - native code panics past Exception, and a
            return self._failed(exc)  # watcher that died would look like a quiet table
        if self._state.failures:
            self._change(phase="idle", failures=0)
        return self._options.poll_s

    def _sync(self) -> SyncReport:
        self._change(phase="syncing", pending_rows=None)
        report = self._run_sync(self._progress)
        rows = report.changed + report.removed
        state = replace(
            self._state, phase="idle", indexed=report.version.source, pending_rows=0, failures=0
        )
        if not report.is_noop:
            state = replace(
                state,
                syncs=state.syncs + 1,
                duration_s=report.duration_s,
                rows_per_s=rows / report.duration_s if report.duration_s else None,
            )
        self._set(state)
        if self._on_sync is not None and not report.is_noop:
            self._on_sync(report)
        return report

    def _progress(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise SyncStopped("the watcher was stopped before this sync had published")
        state = replace(self._state, pending_rows=total - done)
        now = time.monotonic()
        if now - self._told_at < _TELL_EVERY_S:
            self._state = state
        else:
            self._told_at = now
            self._set(state)

    def _failed(self, exc: BaseException) -> float:
        failures, options = self._state.failures + 1, self._options
        longest = min(options.last_pause_s, options.first_pause_s * 2.0 ** min(failures - 1, 30))
        pause = longest * random.uniform(0.5, 1.0)
        if str(exc) != self._state.last_error or failures == 1:
            _log.warning("sync_failed retry_s=%.1f reason=%s", pause, exc, exc_info=_unknown(exc))
        self._fail(exc)
        return pause

    def _fail(self, exc: BaseException) -> None:
        self._change(
            phase="failing",
            failures=self._state.failures + 1,
            pending_rows=None,
            last_error=str(exc) or type(exc).__name__,
            last_error_at=datetime.now(UTC),
        )

    def _change(self, **fields: object) -> None:
        self._set(replace(self._state, **fields))  # type: ignore[arg-type]

    def _set(self, state: SyncState) -> None:
        self._state = state
        if self._on_change is not None:
            self._on_change(state)


def _unknown(exc: BaseException) -> BaseException | None:
    """The error, where its own message is not enough: one that no room of ours raised."""
    is_ours = type(exc).__module__.split(".")[0] in ("pipelines", "vector_index", "llm_endpoint")
    return None if is_ours else exc
