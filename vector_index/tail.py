"""The newest rows, in memory: appended by one writer, scanned exactly by any number of readers.

Rows are only ever appended, and a reader holds the counts it began with (`TailView`), so what it
sees never changes under it. Every SEALED_ROWS rows the Arrow tables of single changes are joined
into a block whose columns are decoded once; the few rows after the last block are judged one by
one in plain Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.deaths import Deaths
from vector_index.filters import Filter, matches
from vector_index.manifest import IndexSettings
from vector_index.masks import Mask
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    IndexDelta,
    Passage,
    passage_from_row,
    passage_schema,
)
from vector_index.rows import PassageRows, may_see
from vector_index.segment import Content, owners_of, rows_of

# Judging 256 rows in Python takes 0.3 ms; a block costs a search some 20 us.
SEALED_ROWS = 256


@dataclass(frozen=True, slots=True)
class TailLimits:
    """How much may wait in memory (and in the log) before it must become a segment.

    rows: passages; also the bound on documents. size_bytes: of vectors and Arrow data.
    """

    rows: int = 8192
    size_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows first..first+len(rows) of the tail, sealed."""

    first: int
    rows: PassageRows


class Tail:
    """Where changes land first. One writer at a time; `view` is what readers get."""

    def __init__(self, settings: IndexSettings, limits: TailLimits) -> None:
        self.settings = settings
        self.deaths = Deaths.none(limits.rows)
        self.vectors = np.empty((limits.rows, settings.embedder.dim), np.float32)
        self.owners = np.empty(limits.rows, np.int32)
        self.ids: list[str] = []
        self.hashes: list[str] = []
        self._limits = limits
        self._rows = 0
        self._size_bytes = 0
        self._places: dict[str, int] = {}
        self._blocks: tuple[_Block, ...] = ()
        self._loose: list[Passage] = []
        self._loose_tables: list[pa.Table] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever appended."""
        return not self.ids

    def has_room(self, delta: IndexDelta) -> bool:
        """Whether the change fits within the limits."""
        rows, documents = delta.passages.num_rows, delta.documents.num_rows
        return (
            self._rows + rows <= self._limits.rows
            and len(self.ids) + documents <= self._limits.rows
            and self._size_bytes + size_bytes(delta) <= self._limits.size_bytes
        )

    def find(self, document_id: str) -> int:
        """The position of the document's newest state here, -1 when it has none that lives."""
        place = self._places.get(document_id, -1)
        return place if place >= 0 and self.deaths.is_alive(place) else -1

    def count_rows(self, document: int) -> int:
        """How many passages the document at this position has."""
        return len(rows_of(self.owners[: self._rows], np.array([document])))

    def append(self, delta: IndexDelta) -> None:
        """Takes the change's documents in; no reader sees them before the next `view`."""
        first, rows, base = self._rows, delta.passages.num_rows, len(self.ids)
        self.vectors[first : first + rows] = delta.vectors
        self.owners[first : first + rows] = owners_of(delta.documents, delta.passages) + base
        ids = delta.documents["document_id"].to_pylist()
        self.ids.extend(ids)
        self.hashes.extend(delta.documents["document_hash"].to_pylist())
        self._places.update({key: base + number for number, key in enumerate(ids)})
        self._rows += rows
        self._size_bytes += size_bytes(delta)
        self._loose_tables.append(delta.passages)
        loose_rows = len(self._loose) + rows
        if loose_rows >= SEALED_ROWS:
            self._seal(first - len(self._loose))
        else:
            self._loose.extend(passage_from_row(row) for row in delta.passages.to_pylist())

    def view(self) -> "TailView":
        """Everything appended so far."""
        return TailView(self, self._rows, len(self.ids), self._blocks, self._loose)

    def tables(self) -> list[pa.Table]:
        """Every appended passage, in row order."""
        return [*(block.rows.table for block in self._blocks), *self._loose_tables]

    def _seal(self, first: int) -> None:
        table = pa.concat_tables(self._loose_tables).combine_chunks()
        self._blocks = (*self._blocks, _Block(first, PassageRows(table, self.settings)))
        # A new list: readers of older views still index the one they hold.
        self._loose, self._loose_tables = [], []


@dataclass(frozen=True, slots=True)
class TailView:
    """The first `rows` rows and `documents` documents of a tail: immutable."""

    tail: Tail
    rows: int
    documents: int
    blocks: tuple[_Block, ...]
    loose: list[Passage]

    @property
    def ids(self) -> Sequence[str]:
        """Every document id, dead ones too, by position."""
        return self.tail.ids[: self.documents]

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        access: Access,
        where: Filter | None,
        sequence: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores float32 (n, k) and rows int64 (n, k), best first; missing: -inf and -1."""
        allowed = self._allowed(access, where)
        allowed &= ~self.tail.deaths.dead(self.tail.owners[: self.rows], sequence)
        rows = np.flatnonzero(allowed)
        stored = self.tail.vectors[: self.rows]
        # A product over all rows costs less than copying most of them first.
        if len(rows) * 2 > self.rows:
            scores = (queries @ stored.T)[:, rows]
        else:
            scores = queries @ stored[rows].T
        return _best(scores, rows, k)

    def take(self, rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at these rows, in this order."""
        found: dict[int, Passage] = {}
        for block in self.blocks:
            last = block.first + block.rows.table.num_rows
            mine = rows[(rows >= block.first) & (rows < last)]
            if len(mine):
                taken = block.rows.take(mine - block.first)
                found.update(zip(mine.tolist(), taken, strict=True))
        first = self._first_loose
        return [found[row] if row < first else self.loose[row - first] for row in rows.tolist()]

    def vectors_at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors at these rows, float32 (len(rows), dim)."""
        return self.tail.vectors[rows]

    def alive(self, sequence: int) -> NDArray[np.int64]:
        """Positions of the documents that live at `sequence`, ascending."""
        return self.tail.deaths.alive(sequence, documents=self.documents)

    def live_documents(self, sequence: int) -> pa.Table:
        """DOCUMENT_SCHEMA of what lives at `sequence`."""
        alive = self.alive(sequence).tolist()
        columns = [[self.tail.ids[a] for a in alive], [self.tail.hashes[a] for a in alive]]
        return pa.table([pa.array(c, pa.string()) for c in columns], schema=DOCUMENT_SCHEMA)

    def find(self, document_ids: Sequence[str], sequence: int) -> NDArray[np.int64]:
        """Positions of those of these documents that live here at `sequence`."""
        wanted = set(document_ids)
        places = [p for p in self.alive(sequence).tolist() if self.tail.ids[p] in wanted]
        return np.array(places, np.int64)

    def rows_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these documents, document by document."""
        return rows_of(self.tail.owners[: self.rows], documents)

    def count(self, sequence: int) -> tuple[int, int]:
        """How many documents and passages live at `sequence`."""
        alive = self.alive(sequence)
        return len(alive), len(self.rows_of(alive))

    def content(self, documents: NDArray[np.int64]) -> Content:
        """These documents with passages and vectors. The tail must not be appended to any more."""
        schema = passage_schema(self.tail.settings.metadata_columns)
        rows = self.rows_of(documents)
        table = pa.concat_tables([schema.empty_table(), *self.tail.tables()])
        columns = [[self.tail.ids[d] for d in documents], [self.tail.hashes[d] for d in documents]]
        return Content(
            documents=pa.table(
                [pa.array(c, pa.string()) for c in columns], schema=DOCUMENT_SCHEMA
            ),
            passages=table.take(pa.array(rows)),
            vectors=self.tail.vectors[rows],
        )

    @property
    def _first_loose(self) -> int:
        if not self.blocks:
            return 0
        last = self.blocks[-1]
        return last.first + last.rows.table.num_rows

    def _allowed(self, access: Access, where: Filter | None) -> Mask:
        masks: list[Mask] = []
        for block in self.blocks:
            mask = block.rows.allowed(access, where)
            masks.append(np.ones(block.rows.table.num_rows, np.bool_) if mask is None else mask)
        settings = self.tail.settings
        loose = (
            may_see(passage, access, settings)
            and (where is None or matches(where, passage.metadata))
            for passage in self.loose[: self.rows - self._first_loose]
        )
        masks.append(np.fromiter(loose, np.bool_))
        return np.concatenate(masks)


def size_bytes(delta: IndexDelta) -> int:
    """What the change adds to a tail, in bytes."""
    return int(delta.vectors.nbytes + delta.passages.nbytes + delta.documents.nbytes)


def _best(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    wanted = min(k, len(rows))
    out_scores = np.full((len(scores), k), -np.inf, np.float32)
    out_rows = np.full((len(scores), k), -1, np.int64)
    if wanted:
        best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
        found = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        out_scores[:, :wanted] = np.take_along_axis(found, order, axis=1)
        out_rows[:, :wanted] = rows[np.take_along_axis(best, order, axis=1)]
    return out_scores, out_rows
