"""Vector and full text search as one: what each leg looks for, and how their hits become one list.

A hybrid search asks both legs for `leg_depth(k)` hits and fuses them by rank.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_k
from vector_index.errors import InvalidQuery
from vector_index.fusion import reciprocal_rank_fusion
from vector_index.passages import Hit
from vector_index.protocol import MAX_K
from vector_index.query import EQUAL, LegWeights, QueryType, Wanted

# A passage that is 30th in both legs outranks one that is first in one and absent in the other
# (2/90 > 1/61), so legs are read well past k.
_LEG_DEPTH = 100

_Part = TypeVar("_Part")


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
    nearest: Callable[[NDArray[np.float32], int], list[Hit]],
    with_words: Callable[[str, int], list[Hit]],
    cosine: Callable[[Hit, NDArray[np.float32]], float],
) -> tuple[Hit, ...]:
    """The hits of a search, best first: the two legs as the mode asks for them.

    Wherever a vector was given every hit carries its cosine as `vector_score`, also one that
    only its words found: what is relevant is judged by it. Raises InvalidQuery.
    """
    check_k(wanted.k)
    mode, depth = wanted.mode, leg_depth(wanted.k) if wanted.mode == "hybrid" else wanted.k
    by_vector: list[Hit] = []
    by_words: list[Hit] = []
    if mode != "full_text":
        by_vector = nearest(required(wanted.vector, mode, "vector"), depth)
    if mode != "ann":
        by_words = with_words(required(wanted.text, mode, "text"), depth)
    if mode == "ann":
        return tuple(replace(hit, vector_score=hit.score) for hit in by_vector)
    if mode == "hybrid":
        hits = fuse(by_vector, by_words, wanted.k, wanted.weights)
    else:
        hits = tuple(replace(hit, text_score=hit.score) for hit in by_words)
    vector = wanted.vector
    if vector is None:
        return hits
    return tuple(
        hit if hit.vector_score is not None else replace(hit, vector_score=cosine(hit, vector))
        for hit in hits
    )


def fuse(
    ann_hits: Sequence[Hit], text_hits: Sequence[Hit], k: int, weights: LegWeights = EQUAL
) -> tuple[Hit, ...]:
    """The k best of both legs by reciprocal rank fusion, best first, ties by passage.

    ann_hits, text_hits: best first, scored by cosine and by BM25. The fused hits carry both as
    `vector_score` and `text_score`; their own `score` is the fused one.
    """
    by_vector = {_key(hit): hit for hit in ann_hits}
    by_text = {_key(hit): hit for hit in text_hits}
    ranked = reciprocal_rank_fusion(
        [list(by_vector), list(by_text)], [weights.ann, weights.full_text]
    )
    return tuple(_fused(by_vector.get(key), by_text.get(key), score) for key, score in ranked[:k])


def _fused(vector: Hit | None, text: Hit | None, score: float) -> Hit:
    hit = vector or text
    assert hit is not None  # every ranked key came from a leg
    return replace(
        hit,
        score=score,
        vector_score=None if vector is None else vector.score,
        text_score=None if text is None else text.score,
    )


def _key(hit: Hit) -> tuple[str, int]:
    return (hit.passage.document_id, hit.passage.ordinal)
