"""BM25 in plain Python over dictionaries: the reference, and the full text of a mutable tail.

score(passage) = sum over fields and terms of
    boost * idf * (K1 + 1) * tf / (tf + K1 * (1 - B + B * length / average length))
    idf = ln(1 + (N - df + 0.5) / (df + 0.5))

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), section
3.4, with the idf of Lucene's BM25Similarity, which is never negative. Tantivy keeps the constant
factor (K1 + 1), and so do we: scores of both compare.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vector_index.fulltext.protocol import (
    FIELD_BOOSTS,
    K1,
    B,
    IsAllowed,
    Statistics,
    TextField,
    TextHit,
    best_first,
)
from vector_index.fulltext.tokens import query_terms, tokens
from vector_index.passages import Access, Passage


@dataclass(frozen=True, slots=True)
class _Row:
    document_id: str
    ordinal: int
    tenant: str | None
    groups: frozenset[str]
    counts: dict[TextField, Counter[str]]
    lengths: dict[TextField, int]


class _Field:
    """The postings of one field: term to row number to occurrences."""

    def __init__(self) -> None:
        self.postings: dict[str, dict[int, int]] = {}
        self.length = 0


class MemoryText:
    """A FullText that changes in place: one thread adds and removes, any number search.

    No lock is needed between them: a search copies the postings it reads, each in one step of
    the interpreter, and skips rows that are gone by the time it looks at them.
    has_tenant, has_groups: whether rows are restricted by tenant and by group.
    """

    def __init__(self, *, has_tenant: bool, has_groups: bool) -> None:
        self._has_tenant = has_tenant
        self._has_groups = has_groups
        self._rows: dict[int, _Row] = {}
        self._documents: dict[str, list[int]] = {}
        self._fields: dict[TextField, _Field] = {field: _Field() for field in FIELD_BOOSTS}
        self._next = 0

    @property
    def passages(self) -> int:
        return len(self._rows)

    def average_length(self, field: TextField) -> float:
        count = len(self._rows)
        return self._fields[field].length / count if count else 0.0

    def passages_with(self, field: TextField, term: str) -> int:
        return len(self._fields[field].postings.get(term, ()))

    def add(self, passages: Iterable[Passage]) -> None:
        """Adds passages beside what is there; remove a document first to replace it."""
        for passage in passages:
            row = _row(passage)
            number, self._next = self._next, self._next + 1
            self._rows[number] = row
            self._documents.setdefault(row.document_id, []).append(number)
            for name, counts in row.counts.items():
                field = self._fields[name]
                field.length += row.lengths[name]
                for term, count in counts.items():
                    field.postings.setdefault(term, {})[number] = count

    def remove(self, document_ids: Iterable[str]) -> None:
        """Forgets every passage of these documents; unknown ones are ignored."""
        for document_id in document_ids:
            for number in self._documents.pop(document_id, ()):
                self._forget(number)

    def search(
        self,
        text: str,
        k: int,
        *,
        access: Access,
        is_allowed: IsAllowed,
        background: Statistics | None = None,
    ) -> list[TextHit]:
        """As `FullText.search`.

        background: the collection this one is the newest part of. Terms are then as rare and
        passages as long as in both together, so that hits of both sort into one list; by
        itself a collection of one passage knows no rare term.
        """
        scores: dict[int, float] = {}
        for term in query_terms(text):
            for name in FIELD_BOOSTS:
                self._score(name, term, scores, background)
        hits = [
            TextHit(row.document_id, row.ordinal, score)
            for number, score in scores.items()
            if (row := self._rows.get(number)) and self._may_see(row, access)
        ]
        hits.sort(key=best_first)
        return _first(hits, k, is_allowed)

    def _score(
        self,
        name: TextField,
        term: str,
        scores: dict[int, float],
        background: Statistics | None,
    ) -> None:
        postings = self._fields[name].postings.get(term, {}).copy()
        if not postings:
            return
        matching, total, average = len(postings), len(self._rows), self.average_length(name)
        if background is not None and background.passages:
            average = (average * total + background.average_length(name) * background.passages) / (
                total + background.passages
            )
            matching += background.passages_with(name, term)
            total += background.passages
        idf = math.log(1 + (total - matching + 0.5) / (matching + 0.5))
        weight = FIELD_BOOSTS[name] * idf * (K1 + 1)
        for number, count in postings.items():
            if row := self._rows.get(number):
                norm = K1 * (1 - B + B * row.lengths[name] / average)
                scores[number] = scores.get(number, 0.0) + weight * count / (count + norm)

    def _may_see(self, row: _Row, access: Access) -> bool:
        if self._has_tenant and row.tenant != access.tenant:
            return False
        return not self._has_groups or not access.groups.isdisjoint(row.groups)

    def _forget(self, number: int) -> None:
        row = self._rows.pop(number)
        for name, counts in row.counts.items():
            field = self._fields[name]
            field.length -= row.lengths[name]
            for term in counts:
                field.postings[term].pop(number)
                if not field.postings[term]:
                    del field.postings[term]


def _row(passage: Passage) -> _Row:
    terms: dict[TextField, list[str]] = {
        "title": tokens(passage.title),
        "text": tokens(passage.text),
    }
    return _Row(
        document_id=passage.document_id,
        ordinal=passage.ordinal,
        tenant=passage.tenant,
        groups=frozenset(passage.allowed_groups or ()),
        counts={field: Counter(found) for field, found in terms.items()},
        lengths={field: len(found) for field, found in terms.items()},
    )


def _first(hits: list[TextHit], k: int, is_allowed: IsAllowed) -> list[TextHit]:
    found: list[TextHit] = []
    for hit in hits:
        if len(found) >= k:
            break
        if is_allowed(hit.document_id, hit.ordinal):
            found.append(hit)
    return found
