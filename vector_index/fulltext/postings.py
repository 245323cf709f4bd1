"""BM25 over dictionaries: the words of numbered passages, and how well each fits a question.

score(passage) = sum over fields and terms of
    boost * idf * (K1 + 1) * tf / (tf + K1 * (1 - B + B * length / average length))
    idf = ln(1 + (N - df + 0.5) / (df + 0.5))

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), section
3.4, with the idf of Lucene's BM25Similarity, which is never negative. Tantivy keeps the constant
factor (K1 + 1), and so do we: scores of both compare.
"""

import math
from collections import Counter
from dataclasses import dataclass

from vector_index.fulltext.protocol import FIELD_BOOSTS, K1, B, Statistics, TextField
from vector_index.fulltext.tokens import query_terms, tokens
from vector_index.passages import Passage


@dataclass(frozen=True, slots=True)
class _Words:
    counts: dict[TextField, Counter[str]]
    lengths: dict[TextField, int]


class _Field:
    """The postings of one field: term to passage number to occurrences."""

    def __init__(self) -> None:
        self.postings: dict[str, dict[int, int]] = {}
        self.length = 0


class Postings:
    """Changes in place: one thread adds and forgets, any number score, and none of them locks.

    A search copies the postings it reads, each in one step of the interpreter, and skips numbers
    that are gone by the time it looks at them.
    """

    def __init__(self) -> None:
        self._words: dict[int, _Words] = {}
        self._fields: dict[TextField, _Field] = {field: _Field() for field in FIELD_BOOSTS}

    @property
    def passages(self) -> int:
        return len(self._words)

    def average_length(self, field: TextField) -> float:
        count = len(self._words)
        return self._fields[field].length / count if count else 0.0

    def passages_with(self, field: TextField, term: str) -> int:
        return len(self._fields[field].postings.get(term, ()))

    def add(self, number: int, passage: Passage) -> None:
        """Takes in a passage under a number that is free."""
        words = _words(passage)
        self._words[number] = words
        for name, counts in words.counts.items():
            field = self._fields[name]
            field.length += words.lengths[name]
            for term, count in counts.items():
                field.postings.setdefault(term, {})[number] = count

    def forget(self, number: int) -> None:
        """Takes the passage with this number out again."""
        words = self._words.pop(number)
        for name, counts in words.counts.items():
            field = self._fields[name]
            field.length -= words.lengths[name]
            for term in counts:
                field.postings[term].pop(number)
                if not field.postings[term]:
                    del field.postings[term]

    def scores(self, text: str, background: Statistics | None = None) -> dict[int, float]:
        """Passage number to BM25, of every passage that holds a word of the text.

        background: the collection this one is the newest part of. Terms are then as rare and
        passages as long as in both together, so that scores of both sort into one list; by
        itself a collection of one passage knows no rare term.
        """
        scores: dict[int, float] = {}
        for term in query_terms(text):
            for name in FIELD_BOOSTS:
                self._score(name, term, scores, background)
        return scores

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
        matching, total, average = len(postings), len(self._words), self.average_length(name)
        if background is not None and background.passages:
            average = (average * total + background.average_length(name) * background.passages) / (
                total + background.passages
            )
            matching += background.passages_with(name, term)
            total += background.passages
        idf = math.log(1 + (total - matching + 0.5) / (matching + 0.5))
        weight = FIELD_BOOSTS[name] * idf * (K1 + 1)
        for number, count in postings.items():
            if words := self._words.get(number):
                norm = K1 * (1 - B + B * words.lengths[name] / average)
                scores[number] = scores.get(number, 0.0) + weight * count / (count + norm)


def _words(passage: Passage) -> _Words:
    terms: dict[TextField, list[str]] = {
        "title": tokens(passage.title),
        "text": tokens(passage.text),
    }
    return _Words(
        counts={field: Counter(found) for field, found in terms.items()},
        lengths={field: len(found) for field, found in terms.items()},
    )
