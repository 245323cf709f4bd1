"""The merges of one writer: at most one at a time, started when the tiers say so."""

import logging
from collections.abc import Sequence

from vector_index.errors import VectorIndexError
from vector_index.fulltext import dead_share
from vector_index.generation import FULLTEXT, Generation
from vector_index.manifest import IndexSettings
from vector_index.merge import Merge
from vector_index.segment import open_segment
from vector_index.tiers import SegmentSize, due
from vector_index.writing import Merged

_log = logging.getLogger(__name__)

# Of the disk and of damaged files; FAISS raises RuntimeError, Arrow ValueError.
_FAILURES = (OSError, ValueError, RuntimeError, VectorIndexError)


class Merging:
    """Not thread-safe: the writer calls it while it holds its publishing lock.

    in_process_rows: up to so many rows, a merge that is waited for starts no process.
    """

    def __init__(self, settings: IndexSettings, *, in_process_rows: int) -> None:
        self._settings = settings
        self._in_process_rows = in_process_rows
        self._merge: Merge | None = None

    @property
    def pinned(self) -> frozenset[str]:
        """Folders beside the generations that a running merge needs."""
        return frozenset() if self._merge is None else self._merge.pinned

    def ended(self) -> Merged | None:
        """The merge that has ended well and waits to be adopted; a failed one is discarded."""
        if self._merge is None or not self._merge.is_over():
            return None
        result = self._merge.result()
        if result is None:
            self.discard()
            return None
        try:
            segment = open_segment(self._merge.job.target, result.entry, self._settings)
        except _FAILURES as exc:
            _log.warning("merge_failed index=%s reason=%s", self._settings.name, exc)
            self.discard()
            return None
        return Merged(self._merge, segment, dict(result.files))

    def start_if_due(self, generation: Generation) -> None:
        """Starts the merge that the tiers ask for, if none is under way, and returns."""
        if self._merge is None and (segments := due(_sizes(generation))):
            self._start(generation, segments)

    def finish_due(self, generation: Generation) -> None:
        """Does the merge that the tiers ask for, if none is under way, and returns after it."""
        if self._merge is not None or not (segments := due(_sizes(generation))):
            return
        rows = sum(size.live_rows for size in _sizes(generation) if size.id in segments)
        if rows > self._in_process_rows:
            self._start(generation, segments)
            self.wait()
            return
        self.merge_here(generation, segments)

    def merge_here(self, generation: Generation, segments: Sequence[str]) -> None:
        """Merges these segments in this process; the next publish adopts the result."""
        merge = Merge(generation, segments)
        try:
            merge.run_here()
            self._merge = merge
        except _FAILURES as exc:
            _log.warning("merge_failed index=%s reason=%s", self._settings.name, exc)
            merge.discard()

    def start_all(self, generation: Generation) -> bool:
        """Starts a merge of all segments if that would change anything; says whether it did.

        It takes the place of one that is under way.
        """
        sizes = _sizes(generation)
        has_dead = any(entry.deleted for entry in generation.manifest.segments)
        # Full text has segments of its own: a deleted document may be only there still.
        has_dead = has_dead or dead_share(generation.folder / FULLTEXT) > 0
        if not sizes or (len(sizes) == 1 and not has_dead):
            return False
        self.discard()
        self._start(generation, [size.id for size in sizes])
        return True

    def wait(self) -> None:
        """Returns once no merge is running."""
        if self._merge is not None:
            self._merge.wait()

    def discard(self) -> None:
        """Forgets the merge: ends it if it is running, and removes what it wrote."""
        if self._merge is not None:
            self._merge.discard()
            self._merge = None

    def _start(self, generation: Generation, segments: Sequence[str]) -> None:
        merge = Merge(generation, segments)
        try:
            merge.start()
            self._merge = merge
        except OSError as exc:
            _log.warning("merge_not_started index=%s reason=%s", self._settings.name, exc)
            merge.discard()


def _sizes(generation: Generation) -> list[SegmentSize]:
    """As of the generation: a merge reads its files, and so drops only who was dead by then."""
    sequence = generation.manifest.sequence
    return [
        SegmentSize(
            layer.segment.id,
            layer.segment.vectors.count,
            layer.segment.count_rows(layer.deaths.positions(sequence)),
        )
        for layer in generation.layers
    ]
