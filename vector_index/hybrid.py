"""Vector and full text search as one: what each leg looks for, and how two lists become one.

A hybrid search asks both legs for `leg_depth(k)` passages and fuses them by rank. Legs name
passages by references, whatever an index finds them by: only what is returned is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_k
from vector_index.errors import InvalidQuery
from vector_index.fusion import reciprocal_rank_fusion
from vector_index.passages import Hit, Passage
from vector_index.protocol import MAX_K
from vector_index.query import EQUAL, LegWeights, QueryType, Wanted

# A passage that is 30th in both legs outranks one that is first in one and absent in the other
# (2/90 > 1/61), so legs are read well past k. Between 30, 50 and 100 recall@10 differed by 2 of
# 100 questions at the most, in no one direction (benchmarks/hybrid.py).
_LEG_DEPTH = 50

_Part = TypeVar("_Part")
Ref = TypeVar("Ref", bound=tuple[str, int] | tuple[int, int])
Leg = list[tuple[Ref, float]]
"""References with their scores, best first."""


@dataclass(frozen=True, slots=True)
class Found(Generic[Ref]):
    """A reference with the scores that a Hit carries."""

    ref: Ref
    score: float
    vector_score: float | None
    text_score: float | None


def required(value: _Part | None, mode: QueryType, field: Literal["vector", "text"]) -> _Part:
    """The value. Raises InvalidQuery naming the field that this kind of search lacks."""
    if value is None:
        raise InvalidQuery(f"a search of type {mode!r} needs a {field}, got none", field=field)
    return value


def leg_depth(k: int) -> int:
    """How many hits each leg of a hybrid search is asked for."""
    return min(max(2 * k, _LEG_DEPTH), MAX_K)


def find(
    wanted: Wanted,
    *,
    nearest: Callable[[NDArray[np.float32], int], Leg[Ref]],
    with_words: Callable[[str, int], Leg[Ref]],
    cosine: Callable[[Ref, NDArray[np.float32]], float],
) -> list[Found[Ref]]:
    """What a search finds, best first: at least k, for all that tie with the k-th are there.

    Wherever a vector was given each has its cosine as `vector_score`, also one that only its
    words found: what is relevant is judged by it. Raises InvalidQuery.
    """
    check_k(wanted.k)
    mode, depth = wanted.mode, leg_depth(wanted.k) if wanted.mode == "hybrid" else wanted.k
    by_vector: Leg[Ref] = []
    by_words: Leg[Ref] = []
    if mode != "full_text":
        by_vector = nearest(required(wanted.vector, mode, "vector"), depth)
    if mode != "ann":
        by_words = with_words(required(wanted.text, mode, "text"), depth)
    if mode == "ann":
        return [Found(ref, score, score, None) for ref, score in by_vector]
    if mode == "hybrid":
        found = fuse(by_vector, by_words, wanted.k, wanted.weights)
    else:
        found = [Found(ref, score, None, score) for ref, score in by_words]
    return [_with_cosine(one, wanted.vector, cosine) for one in found]


def fuse(
    by_vector: Leg[Ref], by_words: Leg[Ref], k: int, weights: LegWeights = EQUAL
) -> list[Found[Ref]]:
    """The k best of both legs by reciprocal rank fusion, best first, and all that tie with them.

    by_vector, by_words: scored by cosine and by BM25, which become `vector_score` and
    `text_score`; `score` is the fused one.
    """
    cosines, words = dict(by_vector), dict(by_words)
    ranked = reciprocal_rank_fusion([list(cosines), list(words)], [weights.ann, weights.full_text])
    least = ranked[k - 1][1] if len(ranked) >= k else 0.0
    return [
        Found(ref, score, cosines.get(ref), words.get(ref))
        for ref, score in ranked
        if score >= least
    ]


def hits_of(found: Sequence[Found[Ref]], passages: Sequence[Passage], k: int) -> tuple[Hit, ...]:
    """The k best as hits, ties by document id and ordinal. passages: those of `found`, in order."""
    hits = [
        Hit(passage, one.score, one.vector_score, one.text_score)
        for passage, one in zip(passages, found, strict=True)
    ]
    hits.sort(key=lambda hit: (-hit.score, hit.passage.document_id, hit.passage.ordinal))
    return tuple(hits[:k])


def _with_cosine(
    one: Found[Ref],
    vector: NDArray[np.float32] | None,
    cosine: Callable[[Ref, NDArray[np.float32]], float],
) -> Found[Ref]:
    if vector is None or one.vector_score is not None:
        return one
    return Found(one.ref, one.score, cosine(one.ref, vector), one.text_score)
