"""What the browsing half of an index gives back: batches of matches, pages of documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vector_index.passages import Passage, SearchResult


class PassageSource(Protocol):
    """Where the passages of matches are kept."""

    def take(self, parts: NDArray[np.int64], rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at these places, in this order."""


@dataclass(frozen=True, slots=True)
class Matches:
    """The rows nearest to each of n queries; passages are read only when asked for.

    scores: float32 (n, k), best first, -inf where fewer than k qualify.
    parts, rows: int64 (n, k), where in `source` the passage is; -1 where there is none.
    """

    scores: NDArray[np.float32]
    parts: NDArray[np.int64]
    rows: NDArray[np.int64]
    source: PassageSource

    def passages(self, query: int) -> list[Passage]:
        """The passages found for this query, best first."""
        found = int((self.rows[query] >= 0).sum())
        return self.source.take(self.parts[query, :found], self.rows[query, :found])


@dataclass(frozen=True, slots=True)
class PassageList:
    """A PassageSource of one part: the passages in hand, by their position."""

    passages: Sequence[Passage]

    def take(self, parts: NDArray[np.int64], rows: NDArray[np.int64]) -> list[Passage]:
        return [self.passages[row] for row in rows.tolist()]


def matches_of(results: Sequence[SearchResult], k: int) -> Matches:
    """The hits of several searches, of at most k each, as one batch."""
    scores = np.full((len(results), k), -np.inf, np.float32)
    rows = np.full((len(results), k), -1, np.int64)
    passages: list[Passage] = []
    for number, result in enumerate(results):
        count = len(result.hits)
        scores[number, :count] = [hit.score for hit in result.hits]
        rows[number, :count] = range(len(passages), len(passages) + count)
        passages += [hit.passage for hit in result.hits]
    return Matches(scores, np.where(rows < 0, -1, 0), rows, PassageList(passages))


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it is indexed, its passages in their order."""

    document_id: str
    document_hash: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Documents in the order of their ids. next: where to go on `after`; None at the end."""

    documents: tuple[StoredDocument, ...]
    next: str | None
