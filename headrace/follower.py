"""An index kept at its newest generation, and how far it is behind its table."""

import logging
import threading

from headrace.pending import pending_rows
from pipelines.errors import PipelineError
from pipelines.sources import TableSource
from vector_index.errors import VectorIndexError
from vector_index.passages import Lag, SourceVersion
from vector_index.protocol import SyncedIndex

# A published generation must be served within 2 s; opening one takes most of the rest.
_POLL_S = 0.5
_log = logging.getLogger(__name__)


class FollowedIndex:
    """Keeps an index at its newest generation and knows how far it is behind its table."""

    def __init__(self, index: SyncedIndex, source: TableSource) -> None:
        self.index = index
        self.lag: Lag | None = None
        self._source = source
        self._complaint = ""
        self._pending: tuple[SourceVersion, int | None, int | None] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-index", daemon=True)

    def start(self) -> None:
        """Follows until stop()."""
        self._thread.start()

    def stop(self) -> None:
        """Ends following and waits for it."""
        self._stopping.set()
        self._thread.join()

    def problem(self) -> str | None:
        """Why the index cannot be searched, or None."""
        try:
            self.index.version()
        except VectorIndexError as exc:
            return str(exc)
        return None

    def pending_rows(self) -> int | None:
        """Rows that the index has yet to take in, None where that is not known; may take a while.

        Counted once for each state of index and table.
        """
        lag = self.lag
        if lag is None or self.problem() is not None:
            return None
        indexed = self.index.version().source
        if self._pending is None or self._pending[:2] != (indexed, lag.versions):
            try:
                found = pending_rows(self._source, indexed, lag)
            except PipelineError:
                return None
            self._pending = (indexed, lag.versions, found)
        return self._pending[2]

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.index.refresh()
                if self.problem() is None:
                    self.lag = self._source.lag(self.index.version().source)
                self._complaint = ""
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as exc:  # noqa: BLE001 - native code panics past Exception, and
                # a follower that died would serve an old generation for ever. The one in hand
                # keeps serving; said once, not twice a second.
                self.lag = None
                if str(exc) != self._complaint:
                    self._complaint = str(exc)
                    _log.warning("cannot follow index: %s", exc, exc_info=_unknown(exc))
            self._stopping.wait(_POLL_S)


def _unknown(exc: BaseException) -> BaseException | None:
    """The error, where its own message is not enough: one that no room of ours raised."""
    return None if isinstance(exc, (VectorIndexError, PipelineError)) else exc
