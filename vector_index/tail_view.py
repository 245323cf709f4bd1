"""What one reader sees of a tail: its first rows, which never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.deaths import Deaths
from vector_index.filters import Filter, matches
from vector_index.fulltext import Postings, Statistics
from vector_index.manifest import IndexSettings
from vector_index.masks import Mask
from vector_index.passages import DOCUMENT_SCHEMA, Access, Passage, passage_schema
from vector_index.rows import PassageRows
from vector_index.segment import Content, rows_of


@dataclass(frozen=True, slots=True)
class Block:
    """Rows first..first+len of the tail, sealed. passages: the same rows, where they are made."""

    first: int
    rows: PassageRows
    passages: tuple[Passage, ...] | None

    def __len__(self) -> int:
        return int(self.rows.table.num_rows)

    def take(self, rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at these rows of the tail, all of which are in this block."""
        if self.passages is None:
            return self.rows.take(rows - self.first)
        return [self.passages[row - self.first] for row in rows.tolist()]


@dataclass(frozen=True, slots=True)
class TailRows:
    """What a tail's writer appends to and its readers read the first entries of.

    vectors: float32 (capacity, dim). owners: int32 (capacity,), each row's document. words: by
    row, dead rows too.
    """

    settings: IndexSettings
    vectors: NDArray[np.float32]
    owners: NDArray[np.int32]
    deaths: Deaths
    words: Postings
    ids: list[str]
    hashes: list[str]


@dataclass(frozen=True, slots=True)
class TailView:
    """The first `rows` rows and `documents` documents of a tail: immutable.

    loose, loose_tables: the rows after the last block, as passages and as Arrow tables; the
    lists may be longer than this view.
    """

    tail: TailRows
    rows: int
    documents: int
    blocks: tuple[Block, ...]
    loose: list[Passage]
    loose_tables: list[pa.Table]

    def allowed(self, access: Access, where: Filter | None, sequence: int) -> Mask:
        """Rows alive at `sequence` that this asker may see and that satisfy the filter."""
        mask = self._qualifying(access, where)
        mask &= ~self.tail.deaths.dead(self.tail.owners[: self.rows], sequence)
        return mask

    def scan(
        self, queries: NDArray[np.float32], k: int, *, allowed: Mask | None, sequence: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest of these rows: scores float32 and rows int64, both (n, at most k)."""
        assert allowed is not None
        rows = np.flatnonzero(allowed)
        stored = self.tail.vectors[: self.rows]
        # A product over all rows costs less than copying most of them first.
        if len(rows) * 2 > self.rows:
            scores = (queries @ stored.T)[:, rows]
        else:
            scores = queries @ stored[rows].T
        return _best(scores, rows, k)

    def with_words(
        self, text: str, k: int, *, allowed: Mask, background: Statistics
    ) -> list[tuple[int, float]]:
        """The k of these rows that fit the text best, with their BM25, best first.

        background: the words of what the tail comes after.
        """
        scores = self.tail.words.scores(text, background).items()
        found = [(row, score) for row, score in scores if row < self.rows and allowed[row]]
        return nsmallest(k, found, key=lambda entry: (-entry[1], entry[0]))

    def take(self, rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at these rows, in this order."""
        found: dict[int, Passage] = {}
        for block in self.blocks:
            mine = rows[(rows >= block.first) & (rows < block.first + len(block))]
            if len(mine):
                found.update(zip(mine.tolist(), block.take(mine), strict=True))
        first = self._first_loose
        return [found[row] if row < first else self.loose[row - first] for row in rows.tolist()]

    def rows_with(self, text_hashes: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
        """The texts that are here, dead ones too, each with a row of it."""
        wanted = set(text_hashes.to_pylist())
        texts = [passage.text_hash for passage in self.take(np.arange(self.rows))]
        found = {text: row for row, text in enumerate(texts) if text in wanted}
        return list(found), np.array(list(found.values()), np.int64)

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

    def sorted_places(self) -> NDArray[np.int64]:
        """Positions of all documents, dead ones too, in the order of their ids."""
        ids = self.tail.ids
        return np.array(sorted(range(self.documents), key=lambda place: ids[place]), np.int64)

    def hash_at(self, place: int) -> str:
        """The content hash of the document at this position."""
        return self.tail.hashes[place]

    def id_at(self, place: int) -> str:
        """The id of the document at this position."""
        return self.tail.ids[place]

    def dead(self, places: NDArray[np.int64], sequence: int) -> Mask:
        """Which of these documents are dead at `sequence`."""
        return self.tail.deaths.dead(places, sequence)

    def rows_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these documents, document by document."""
        return rows_of(self.tail.owners[: self.rows], documents)

    def count(self, sequence: int) -> tuple[int, int]:
        """How many documents and passages live at `sequence`."""
        alive = self.alive(sequence)
        return len(alive), len(self.rows_of(alive))

    def content(self, documents: NDArray[np.int64]) -> Content:
        """These documents with passages and vectors. Only of the view of all that a tail has."""
        schema = passage_schema(self.tail.settings.metadata_columns)
        rows = self.rows_of(documents)
        blocks = (block.rows.table for block in self.blocks)
        table = pa.concat_tables([schema.empty_table(), *blocks, *self.loose_tables])
        columns = [[self.tail.ids[d] for d in documents], [self.tail.hashes[d] for d in documents]]
        return Content(
            documents=pa.table([pa.array(c, pa.string()) for c in columns], schema=DOCUMENT_SCHEMA),
            passages=table.take(pa.array(rows)),
            vectors=self.tail.vectors[rows],
        )

    @property
    def _first_loose(self) -> int:
        if not self.blocks:
            return 0
        last = self.blocks[-1]
        return last.first + len(last)

    def _qualifying(self, access: Access, where: Filter | None) -> Mask:
        masks: list[Mask] = []
        for block in self.blocks:
            mask = block.rows.allowed(access, where)
            masks.append(np.ones(len(block), np.bool_) if mask is None else mask)
        settings = self.tail.settings
        loose = (
            settings.may_see(passage, access)
            and (where is None or matches(where, passage.metadata))
            for passage in self.loose[: self.rows - self._first_loose]
        )
        masks.append(np.fromiter(loose, np.bool_))
        return np.concatenate(masks)


def _best(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    wanted = min(k, len(rows))
    if not wanted:
        return np.empty((len(scores), 0), np.float32), np.empty((len(scores), 0), np.int64)
    best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
    found = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    return np.take_along_axis(found, order, axis=1), rows[best]
