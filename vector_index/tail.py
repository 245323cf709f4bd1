"""The newest rows, in memory: appended by one writer, scanned exactly by any number of readers.

Rows are only ever appended, and a reader holds the counts it began with (`TailView`), so what it
sees never changes under it. Every SEALED_ROWS rows the Arrow tables of single changes are joined
into a block whose columns are decoded once, and every JOINED_BLOCKS such blocks into a larger
one; the few rows after the last block are judged one by one in plain Python.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from vector_index.deaths import Deaths
from vector_index.errors import IndexFull
from vector_index.fulltext import Postings
from vector_index.layer import Killed
from vector_index.manifest import IndexSettings
from vector_index.passages import IndexDelta, Passage, passage_from_row
from vector_index.rows import PassageRows
from vector_index.segment import owners_of
from vector_index.tail_view import Block, TailRows, TailView

# Judging a row in Python takes 1 us; a block costs a search 2 us, with a filter some 20 us.
SEALED_ROWS = 64
JOINED_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class TailLimits:
    """How much may wait in memory (and in the log) before it must become a segment.

    rows: passages; also the bound on documents. size_bytes: of vectors and Arrow data. A full
    tail of 4,096 rows of 384 dimensions costs a search some 0.5 ms.
    """

    rows: int = 4096
    size_bytes: int = 256 << 20


class Tail:
    """Where changes land first. One writer at a time; `view` is what readers get."""

    def __init__(self, settings: IndexSettings, limits: TailLimits) -> None:
        # Untouched pages of the arrays cost no memory.
        self._data = TailRows(
            settings=settings,
            vectors=np.empty((limits.rows, settings.embedder.dim), np.float32),
            owners=np.empty(limits.rows, np.int32),
            deaths=Deaths.none(limits.rows),
            words=Postings(),
            ids=[],
            hashes=[],
        )
        self._limits = limits
        self._rows = 0
        self._size_bytes = 0
        self._places: dict[str, int] = {}
        self._blocks: tuple[Block, ...] = ()
        self._loose: list[Passage] = []
        self._loose_tables: list[pa.Table] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever appended."""
        return not self._data.ids

    @property
    def used(self) -> TailLimits:
        """How much of its limits is taken, dead rows too."""
        return TailLimits(max(self._rows, len(self._data.ids)), self._size_bytes)

    def has_room(self, need: TailLimits) -> bool:
        """Whether a change that needs this much fits within the limits."""
        used = self.used
        return (
            used.rows + need.rows <= self._limits.rows
            and used.size_bytes + need.size_bytes <= self._limits.size_bytes
        )

    def append(self, delta: IndexDelta, need: TailLimits) -> None:
        """Takes the change's documents in; no reader sees them before the next `view`."""
        data, first, rows, base = (
            self._data, self._rows, delta.passages.num_rows, len(self._data.ids),
        )  # fmt: skip
        data.vectors[first : first + rows] = delta.vectors
        data.owners[first : first + rows] = owners_of(delta.documents, delta.passages) + base
        ids = delta.documents["document_id"].to_pylist()
        data.ids.extend(ids)
        data.hashes.extend(delta.documents["document_hash"].to_pylist())
        self._places.update({key: base + number for number, key in enumerate(ids)})
        self._rows += rows
        self._size_bytes += need.size_bytes
        self._loose_tables.append(delta.passages)
        loose_from = first - len(self._loose)
        passages = [passage_from_row(row) for row in delta.passages.to_pylist()]
        for number, passage in enumerate(passages, first):
            data.words.add(number, passage)
        if rows < SEALED_ROWS:
            self._loose.extend(passages)
        if self._rows - loose_from >= SEALED_ROWS:
            self._seal(loose_from)

    def kill(self, document_ids: Iterable[str], sequence: int) -> Killed:
        """Records the death of those of these documents that live here."""
        found = [self._places.pop(key) for key in document_ids if key in self._places]
        places = np.array(found, np.int64)
        self._data.deaths.kill(places, sequence, rows=0)
        return Killed(self._data.deaths, places, 0)

    def revive(self, killed: Killed) -> None:
        """Takes a `kill` of this tail back."""
        killed.revive()
        places = killed.documents.tolist()
        self._places.update({self._data.ids[place]: place for place in places})

    def view(self) -> TailView:
        """Everything appended so far."""
        documents = len(self._data.ids)
        return TailView(
            self._data, self._rows, documents, self._blocks, self._loose, self._loose_tables
        )

    def _seal(self, first: int) -> None:
        # A large change comes as a table only: its passages are taken from there on demand.
        rows = self._rows - first
        passages = tuple(self._loose) if len(self._loose) == rows else None
        self._blocks = (*self._blocks, self._block(first, self._loose_tables, passages))
        recent = self._blocks[-JOINED_BLOCKS:]
        joined_rows = SEALED_ROWS * JOINED_BLOCKS
        if len(recent) == JOINED_BLOCKS and max(map(len, recent)) < joined_rows:
            joined = self._block(
                recent[0].first,
                [block.rows.table for block in recent],
                _joined([block.passages for block in recent]),
            )
            self._blocks = (*self._blocks[:-JOINED_BLOCKS], joined)
        # New lists: readers of older views still index the ones they hold.
        self._loose, self._loose_tables = [], []

    def _block(
        self, first: int, tables: list[pa.Table], passages: tuple[Passage, ...] | None
    ) -> Block:
        table = pa.concat_tables(tables).combine_chunks()
        return Block(first, PassageRows(table, self._data.settings), passages)


def _joined(parts: list[tuple[Passage, ...] | None]) -> tuple[Passage, ...] | None:
    known = [part for part in parts if part is not None]
    return tuple(chain.from_iterable(known)) if len(known) == len(parts) else None


def needs(delta: IndexDelta) -> TailLimits:
    """How much of a tail the change takes up."""
    size_bytes = delta.vectors.nbytes + delta.passages.nbytes + delta.documents.nbytes
    return TailLimits(max(delta.passages.num_rows, delta.documents.num_rows), int(size_bytes))


def check_fits(need: TailLimits, limits: TailLimits) -> None:
    """Raises IndexFull for a change that is more than an empty tail holds."""
    if need.rows > limits.rows or need.size_bytes > limits.size_bytes:
        raise IndexFull(
            f"a change of {need.rows} rows and {need.size_bytes} bytes is more than the "
            f"{limits.rows} rows or {limits.size_bytes} bytes that may wait in memory; split "
            f"it, or use publish"
        )
