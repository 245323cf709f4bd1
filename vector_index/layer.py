"""A segment as one reader sees it: the segment's rows less those that died by then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.deaths import Deaths
from vector_index.filters import Filter
from vector_index.kinds import SegmentVectors
from vector_index.masks import Mask
from vector_index.passages import Access, Passage
from vector_index.plan import nearest
from vector_index.segment import Content, Segment


@dataclass(frozen=True, slots=True)
class Killed:
    """What one change killed in one segment or tail, to be taken back if the change fails."""

    deaths: Deaths
    documents: NDArray[np.int64]
    rows: int

    def revive(self) -> None:
        """Takes it back."""
        self.deaths.revive(self.documents, rows=self.rows)


Placing = Callable[[str, SegmentVectors], SegmentVectors]
"""From a segment's id and vectors to what is scanned in their place: a copy on a GPU."""


@dataclass(frozen=True, slots=True)
class Layer:
    """An immutable segment with its deaths, which only ever grow.

    scanned: what is scanned in place of the segment's own vectors, None for these.
    """

    segment: Segment
    deaths: Deaths
    scanned: SegmentVectors | None = None

    @property
    def ids(self) -> pa.ChunkedArray:
        """Every document id of the segment, dead ones too, by position."""
        return self.segment.documents["document_id"]

    def allowed(self, access: Access, where: Filter | None, sequence: int) -> Mask | None:
        """Rows this asker may see that satisfy the filter, dead ones too; None is every row."""
        return self.segment.rows.allowed(access, where)

    def scan(
        self, queries: NDArray[np.float32], k: int, *, allowed: Mask | None, sequence: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest allowed rows alive at `sequence`: float32, int64, both (n, at most k)."""

        def is_dead(rows: NDArray[np.int64]) -> Mask:
            return self.deaths.dead(self.segment.owners[rows], sequence)

        return nearest(
            self.scanned or self.segment.vectors,
            queries,
            k,
            allowed=allowed,
            is_dead=is_dead if self.deaths.rows else None,
            dead_share=self.deaths.rows / max(self.segment.vectors.count, 1),
        )

    def find_row(self, document_id: str, ordinal: int, sequence: int) -> int:
        """The row of a passage that lives at `sequence`, -1 when it is not here."""
        place = self.segment.keys.find(document_id)
        if place < 0 or self.deaths.dead(np.array([place]), sequence)[0]:
            return -1
        return self.segment.row_of(place, ordinal)

    def take(self, rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at these rows."""
        return self.segment.rows.take(rows)

    def rows_with(self, text_hashes: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
        """The texts that are here, dead ones too, each with a row of it."""
        return self.segment.rows.rows_with(text_hashes)

    def vectors_at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors at these rows, float32 (len(rows), dim)."""
        return self.segment.vectors.reconstruct(rows)

    def alive(self, sequence: int) -> NDArray[np.int64]:
        """Positions of the documents that live at `sequence`, ascending."""
        return self.deaths.alive(sequence)

    def live_documents(self, sequence: int) -> pa.Table:
        """DOCUMENT_SCHEMA of what lives at `sequence`."""
        if not self.deaths.rows and not len(self.deaths.positions(sequence)):
            return self.segment.documents
        return self.segment.documents.take(pa.array(self.alive(sequence)))

    def content(self, documents: NDArray[np.int64]) -> Content:
        """These documents with their passages and vectors, copied."""
        rows = self.rows_of(documents)
        return Content(
            documents=self.segment.documents.take(pa.array(documents)),
            passages=self.segment.rows.table.take(pa.array(rows)),
            vectors=self.vectors_at(rows),
        )

    def find(self, document_ids: Sequence[str], sequence: int) -> NDArray[np.int64]:
        """Positions of those of these documents that live here at `sequence`."""
        places = self.segment.keys.find_many(document_ids)
        places = places[places >= 0]
        return places[~self.deaths.dead(places, sequence)]

    def kill(self, document_ids: Sequence[str], sequence: int) -> "Killed":
        """Records the death of those of these documents that live here."""
        places = self.segment.keys.find_many(document_ids)
        places = self.deaths.living(places[places >= 0])
        rows = self.segment.count_rows(places) if len(places) else 0
        self.deaths.kill(places, sequence, rows=rows)
        return Killed(self.deaths, places, rows)

    def sorted_places(self) -> NDArray[np.int64]:
        """Positions of all documents, dead ones too, in the order of their ids."""
        return self.segment.keys.order

    def hash_at(self, place: int) -> str:
        """The content hash of the document at this position."""
        return str(self.segment.documents["document_hash"][place].as_py())

    def id_at(self, place: int) -> str:
        """The id of the document at this position."""
        return str(self.ids[place].as_py())

    def dead(self, places: NDArray[np.int64], sequence: int) -> Mask:
        """Which of these documents are dead at `sequence`."""
        return self.deaths.dead(places, sequence)

    def rows_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these documents, document by document."""
        return self.segment.rows_of(documents)

    def count(self, sequence: int) -> tuple[int, int]:
        """How many documents and passages live at `sequence`."""
        dead = self.deaths.positions(sequence)
        documents = self.segment.documents.num_rows - len(dead)
        return documents, self.segment.vectors.count - self.segment.count_rows(dead)
