"""What every full text index can do, and how it scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from vector_index.passages import Access

TextField = Literal["title", "text"]

# BM25 is computed a field at a time and added up, so a term in both counts twice. More for a
# title lost: 2.0 cut recall@10 from 0.89 to 0.67 on questions that do not name their document
# (benchmarks/hybrid.py, half the words) and gained nothing on ones that do.
FIELD_BOOSTS: dict[TextField, float] = {"title": 1.0, "text": 1.0}
K1 = 1.2
B = 0.75

IsAllowed = Callable[[str, int], bool]


@dataclass(frozen=True, slots=True)
class TextHit:
    """A passage that holds a term of the question; `score` is its BM25, higher is better."""

    document_id: str
    ordinal: int
    score: float


class FullText(Protocol):
    """Passages found by the words in them."""

    def search(self, text: str, k: int, *, access: Access, is_allowed: IsAllowed) -> list[TextHit]:
        """The k passages that score best for the words of `text`, best first.

        `text` has no syntax (see tokens.py); without a word in it nothing is found. Only
        passages that `access` may see and `is_allowed(document_id, ordinal)` accepts are
        returned, and as many as there are: fewer than k only when fewer qualify. Ties are
        ordered by document id and ordinal.
        """


class Statistics(Protocol):
    """What BM25 needs to know of a collection."""

    @property
    def passages(self) -> int: ...

    def average_length(self, field: TextField) -> float:
        """Terms a passage has in this field, on average; 0.0 in an empty collection."""

    def passages_with(self, field: TextField, term: str) -> int:
        """How many passages have the term in this field."""


def best_first(hit: TextHit) -> tuple[float, str, int]:
    """The sort key of hits: by score, ties by document id and ordinal."""
    return (-hit.score, hit.document_id, hit.ordinal)
