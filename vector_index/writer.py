"""The one writer of an index: changes are searchable at once, and durable before that.

    upsert, delete --> log --> tail --flush--> one more segment in a new generation
    search          <-- view: segments and tails at one sequence number

`_lock` guards the state for as long as one change takes; `_publishing` is held through a flush,
which writes its generation without `_lock`, so that changes go on meanwhile in a new tail.
"""

import logging
import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from vector_index.checks import check_base, check_delta, check_ids
from vector_index.errors import NeverPublished, WriteFailed, WriterClosed
from vector_index.generation import Generation, not_found_in, open_current
from vector_index.lock import WriterLock
from vector_index.logs import Logs
from vector_index.manifest import IndexSettings, Manifest
from vector_index.merging import Merging
from vector_index.options import WriterOptions
from vector_index.passages import Base, IndexDelta, IndexVersion, SourceVersion, empty_delta
from vector_index.publish import prune
from vector_index.reading import Reading
from vector_index.segment import Content
from vector_index.snapshot import Snapshot
from vector_index.state import State
from vector_index.tail import TailLimits, check_fits, needs
from vector_index.view import View
from vector_index.wal import Change, touched
from vector_index.writing import Merged, Written, write_generation

_NO_ROOM = TailLimits(0, 0)

_log = logging.getLogger(__name__)


class IndexWriter(Reading):
    """Holds the writer's lock from construction to `close`, and searches what it has written.

    settings None takes the index as it is. Raises IndexBusy when someone else is writing, and
    what `LocalIndex` raises. Unflushed changes of a writer that died are there again.
    """

    def __init__(
        self,
        home: Path,
        settings: IndexSettings | None,
        *,
        options: WriterOptions | None = None,
        opened: Generation | None = None,
    ) -> None:
        self._home = home
        self._options = options or WriterOptions()
        self._held = WriterLock(home, home.name if settings is None else settings.name)
        self._lock, self._publishing = threading.RLock(), threading.RLock()
        self._pinned: frozenset[str] = frozenset()
        self._closed_because: str | None = None
        self._is_released = False
        try:
            self._begin(settings, opened)
        except BaseException:
            self._held.release()
            raise

    def _begin(self, settings: IndexSettings | None, opened: Generation | None) -> None:
        self._view: View | None = None
        generation = open_current(self._home, settings, known=opened)
        if settings is None:
            if generation is None:
                raise not_found_in(self._home)
            settings = generation.manifest.settings
        if generation is not None and generation is opened:
            generation = generation.with_own_deaths()
        self._settings = settings
        self._merging = Merging(settings, in_process_rows=self._options.in_process_rows)
        self._logs = Logs(self._home, settings, is_synced=self._options.is_synced)
        self._nothing = empty_delta(settings.metadata_columns, settings.embedder.dim)
        self._state = State(settings, self._options.tail, generation)
        if generation is not None:
            for change in self._logs.replay(after=generation.manifest.sequence):
                self._state.replay(change)
            self._view = self._state.view()

    def view(self) -> View:
        """The newest state, unflushed changes included. Raises IndexNotFound where none is."""
        if self._view is None:
            raise NeverPublished(self._settings.name)
        return self._view

    def generation(self) -> Generation:
        """The live generation. Raises IndexNotFound before the first publish."""
        if self._state.generation is None:
            raise NeverPublished(self._settings.name)
        return self._state.generation

    def upsert(self, delta: IndexDelta, *, source: SourceVersion | None = None) -> IndexVersion:
        """Makes the change searchable, all of it at once; it survives a crash from then on.

        Every document replaces what it was before. source: the table state this leads to. A
        full tail is flushed first. Raises InvalidDelta, IndexFull when the change alone is more
        than a tail holds, WriteFailed, or IndexNotFound before the first `publish`.
        """
        check_delta(delta, self._settings)
        self.generation()
        need = needs(delta)
        check_fits(need, self._options.tail)
        while True:
            with self._lock:
                self._check_open()
                if self._state.has_room(need):
                    return self._change(delta, source, need)
            self.flush()

    def delete(
        self, document_ids: Collection[str], *, source: SourceVersion | None = None
    ) -> IndexVersion:
        """Takes these documents out at once; ids that are not there change nothing."""
        check_ids(document_ids)
        self.generation()
        removed = frozenset(document_ids)
        with self._lock:
            self._check_open()
            return self._change(replace(self._nothing, removed=removed), source, _NO_ROOM)

    def flush(self) -> IndexVersion:
        """Publishes all changes so far as a generation; other processes can open it then.

        Waits for no merge; one that has ended is adopted. Nothing to publish, nothing is done.
        Raises WriteFailed, and then the changes are still searchable and logged.
        """
        with self._publishing:
            with self._lock:
                self._check_open()
                self.generation()
                merged = self._merging.ended()
                if self._state.is_flushed and merged is None:
                    return self.version()
                snapshot = self._state.freeze()
                tails = self._state.frozen_tails
                self._logs.rotate()
            written = self._write(snapshot, merged)
            with self._lock:
                self._adopt(written, tails=tails)
            if self._options.merges:
                self._merging.start_if_due(self.generation())
            return self.version()

    def publish(
        self, delta: IndexDelta, source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """As `VectorIndex.publish`: upsert, delete and flush in one generation or not at all.

        Not bound by the tail; merges that are due are done first, so it may take its time.
        """
        check_delta(delta, self._settings)
        with self._publishing:
            self._check_open()
            check_base(None if self._view is None else self.version(), base, self._settings.name)
            if self._options.merges and self._state.generation is not None:
                self._merging.finish_due(self._state.generation)
            with self._lock:
                return self._publish(delta, source)

    def settle(self) -> IndexVersion:
        """Does the merges that are due, one after the other, and publishes each."""
        with self._publishing:
            while True:
                before = self.version()
                self._merging.wait()
                self._merging.finish_due(self.generation())
                if self.flush() == before:
                    return before

    def merge_now(self) -> IndexVersion:
        """Flushes, and rewrites all segments into one without their dead documents.

        Deleted text is off the disk once the generations that still name it are pruned. Raises
        WriteFailed where the merge fails; all changes are published by then.
        """
        with self._publishing:
            self._merging.wait()
            self.flush()
            self._merging.wait()  # the flush may have started one
            self.flush()
            if self._merging.start_all(self.generation()):
                self._merging.wait()
                if self._merging.ended() is None:
                    raise WriteFailed(
                        f"the segments of index {self._settings.name!r} could not be merged: the "
                        f"log says why, and deleted text stays on the disk until it can be done"
                    )
                self.flush()
            return self.version()

    def replace_all(
        self, settings: IndexSettings, delta: IndexDelta, source: SourceVersion
    ) -> IndexVersion:
        """Publishes a generation under these settings that holds the delta and nothing else.

        This writer, of the old settings, takes no changes afterwards.
        """
        check_delta(delta, settings)
        with self._publishing, self._lock:
            self._check_open()
            self._merging.discard()
            extra = Content(delta.documents, delta.passages, delta.vectors)
            sequence = self._state.sequence + 1
            before = self._state.generation
            written = self._write(Snapshot(settings, before, (), (), sequence, source, extra), None)
            self._closed_because = "the index was rebuilt under other settings"
            self._clean(written.manifest)
            return written.manifest.version()

    def forget_log(self) -> None:
        """Removes the log. Only of a flushed writer that is about to be closed."""
        self._logs.rotate()
        self._logs.remove(up_to=self._state.sequence)

    def pin(self, generation: str) -> None:
        """Keeps this generation, whatever is published, until the writer is closed."""
        self._pinned |= {generation}

    def close(self) -> None:
        """Lets the next writer in. Unflushed changes stay in the log, not in a generation."""
        with self._publishing, self._lock:
            if not self._is_released:
                self._is_released = True
                self._closed_because = "it was closed"
                self._merging.discard()
                self._logs.close()
                self._held.release()

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed_because is not None:
            raise WriterClosed(
                f"the writer of index {self._settings.name!r} takes no changes, because "
                f"{self._closed_because}; open another one"
            )

    def _change(
        self, delta: IndexDelta, source: SourceVersion | None, need: TailLimits
    ) -> IndexVersion:
        change = Change(self._state.sequence + 1, delta, source)
        killed = self._state.kill(touched(change.delta), change.sequence)
        if not (killed or delta.documents.num_rows or source):
            return self.version()
        try:
            self._logs.append(change)
        except BaseException:
            self._state.revive(killed)
            raise
        try:
            self._state.accept(change, need)
        except BaseException:
            self._closed_because = "a change is whole in its log and half in its memory"
            raise
        self._view = self._state.view()
        return self._view.version

    def _publish(self, delta: IndexDelta, source: SourceVersion) -> IndexVersion:
        state, sequence = self._state, self._state.sequence + 1
        merged = self._merging.ended()
        killed = state.kill(touched(delta), sequence)
        extra = Content(delta.documents, delta.passages, delta.vectors)
        try:
            written = self._write(state.snapshot(sequence, source, extra=extra), merged)
        except BaseException:
            state.revive(killed)
            raise
        self._logs.rotate()
        state.source = source
        self._adopt(written, tails=state.all_tails)
        return self.version()

    def _write(self, snapshot: Snapshot, merged: Merged | None) -> Written:
        try:
            return write_generation(self._home, snapshot, merged)
        except WriterClosed as exc:
            self._closed_because = str(exc)
            raise

    def _adopt(self, written: Written, *, tails: int) -> None:
        self._state.adopt(written, tails=tails)
        self._view = self._state.view()
        if written.merged is not None:
            self._merging.discard()
        self._clean(written.manifest)

    def _clean(self, live: Manifest) -> None:
        try:
            self._logs.remove(up_to=live.sequence)
            pinned = self._merging.pinned | self._pinned
            prune(self._home, live=live, kept=self._options.kept_generations, pinned=pinned)
        except OSError as exc:  # the next flush tries again; a replay skips what is flushed
            _log.warning("not_cleaned index=%s reason=%s", self._settings.name, exc)
