"""Changed rows on their way into an index: read, cut, embedded, and handed on in parts."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.embedding_drift import Moments, moments
from pipelines.engines import Engine, Known
from pipelines.errors import DocumentTooSlow, DocumentUnreadable, EngineFailed, PathRefused
from pipelines.reasons import Reason
from pipelines.setting_aside import SettingAside
from pipelines.sifting import Refused
from pipelines.sources.document_source import DocumentSnapshot
from pipelines.sources.protocol import Snapshot
from pipelines.step import Made, Recipe
from vector_index.held import joined
from vector_index.passages import DOCUMENT_SCHEMA, IndexDelta, MetadataType

Progress = Callable[[int, int], None]
"""Gets (documents done, documents to do), many times a second at most."""

# The first that fits counts.
_REASONS: tuple[tuple[type[DocumentUnreadable], Reason], ...] = (
    (PathRefused, Reason.BAD_PATH),
    (DocumentTooSlow, Reason.PARSER_TIMEOUT),
    (DocumentUnreadable, Reason.PARSER_FAILED),
)
# Documents cut and embedded at a time, and passages handed on at a time.
_BATCH_DOCUMENTS = 1024
_PARSED_DOCUMENTS = 64
PART_PASSAGES = 65_536


@dataclass(slots=True)
class Work:
    """One run over the changed rows of a snapshot; afterwards it says what it came to.

    rows: as `Changes.rows`. aside: takes the rows that cannot be indexed; without it, one such row
    ends the run. dim: of the vectors; known: as `Engine.run`. embedded: texts sent to the
    embedder; passages: rows made; moments: of the vectors made, None before the first.
    """

    snapshot: Snapshot
    hashes: Mapping[str, str]
    metadata: Mapping[str, MetadataType]
    engine: Engine
    dim: int
    known: Known | None = None
    rows: tuple[pa.RecordBatch, ...] | None = None
    aside: SettingAside | None = None
    on_progress: Progress | None = None
    embedded: int = 0
    passages: int = 0
    done: int = 0
    moments: Moments | None = None
    _skipped: frozenset[str] = frozenset()
    _read: deque[int] = field(default_factory=deque)

    def skip(self, keys: Collection[str]) -> None:
        """These documents are there already. Before anything else is asked for."""
        self.done = len(keys)
        self._skipped = frozenset(keys)

    def parts(self, *, passages: int = PART_PASSAGES) -> Iterator[IndexDelta]:
        """The documents to write, in parts of some `passages` passages; no more is in memory."""
        waiting: list[IndexDelta] = []
        for delta in self._deltas():
            waiting.append(delta)
            if sum(one.passages.num_rows for one in waiting) >= passages:
                yield joined(waiting)
                waiting = []
        if waiting:
            yield joined(waiting)

    def _deltas(self) -> Iterator[IndexDelta]:
        if not self.hashes.keys() - self._skipped:
            return
        made = self.engine.run(
            self._sifted(), self._recipe(), known=self.known, on_share=self._share
        )
        yield from map(self._delta, made)
        if self._read:
            raise EngineFailed(
                f"{len(self._read)} batches of rows went to the engine and did not come back; "
                f"nothing was published, sync again"
            )

    def _rows(self) -> Iterator[pa.RecordBatch]:
        """The rows of the documents to write."""
        if self.rows is None:
            yield from self.snapshot.rows(self.hashes.keys() - self._skipped)
            return
        wanted = pa.array(self.hashes.keys() - self._skipped, pa.string())
        for batch in self.rows:
            found = batch.filter(pc.is_in(batch.column(self.snapshot.mapping.key), wanted))
            if found.num_rows:
                yield found

    def _sifted(self) -> Iterator[pa.RecordBatch]:
        """The rows that can be read and keep the rules, in batches for the engine."""
        # Progress is told, and a stop is heard, between these: parsing takes its time.
        is_parsed = isinstance(self.snapshot, DocumentSnapshot)
        size = _PARSED_DOCUMENTS if is_parsed else _BATCH_DOCUMENTS
        for batch in self._rows():
            for first in range(0, batch.num_rows, size):
                some = batch.slice(first, size)
                self._read.append(some.num_rows)
                some = self._parsed(some)
                yield some if self.aside is None else self.aside.sift(some)

    def _delta(self, made: Made) -> IndexDelta:
        self.done += self._read.popleft()
        self.embedded += made.embedded
        self.passages += made.passages.num_rows
        seen = moments(made.vectors)
        self.moments = seen if self.moments is None else self.moments + seen
        if self.aside is not None:
            for refused in made.refused:
                self.aside.reject(refused)
        self._report(0)
        return IndexDelta(self._documents(made.keys), made.passages, made.vectors, frozenset())

    def _parsed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with their text, where it is in documents; without those that have none."""
        if not isinstance(self.snapshot, DocumentSnapshot):
            return batch
        batch, unparsed = self.snapshot.parsed(batch)
        for one in unparsed:
            if self.aside is None:
                raise one.error
            reason = next(r for kind, r in _REASONS if isinstance(one.error, kind))
            self.aside.reject(Refused(one.key, reason, str(one.error), one.shown))
        return batch

    def _documents(self, keys: Sequence[str]) -> pa.Table:
        columns = [keys, [self.hashes[key] for key in keys]]
        return pa.table([pa.array(c, pa.string()) for c in columns], schema=DOCUMENT_SCHEMA)

    def _recipe(self) -> Recipe:
        rules = None if self.aside is None else self.aside.rules
        return Recipe(
            self.snapshot.mapping,
            self.metadata,
            self.dim,
            isolates=rules is not None,
            embed_timeout_s=None if rules is None else rules.embed_timeout_s,
        )

    def _share(self, share: float) -> None:
        self._report(int(self._read[0] * share) if self._read else 0)

    def _report(self, under_way: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self.done + under_way, len(self.hashes))
