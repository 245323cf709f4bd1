"""Vector and full text search as one: what each leg looks for, and how their hits become one list.

A hybrid search asks both legs for `leg_depth(k)` hits and fuses them by rank.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from vector_index.errors import InvalidQuery
from vector_index.fusion import reciprocal_rank_fusion
from vector_index.passages import Hit
from vector_index.protocol import MAX_K, QueryType

# A passage that is 30th in both legs outranks one that is first in one and absent in the other
# (2/90 > 1/61), so legs are read well past k.
_LEG_DEPTH = 100

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class LegWeights:
    """How much each leg counts. Raises InvalidQuery unless finite, not negative, not both 0."""

    ann: float = 1.0
    full_text: float = 1.0

    def __post_init__(self) -> None:
        both = (self.ann, self.full_text)
        if not all(math.isfinite(weight) and weight >= 0 for weight in both) or not any(both):
            raise InvalidQuery(
                f"hybrid weights are {both}; give two numbers from 0 up, not both 0",
                field="weights",
            )


EQUAL = LegWeights()


def required(value: _Part | None, mode: QueryType, field: Literal["vector", "text"]) -> _Part:
    """The value. Raises InvalidQuery naming the field that this kind of search lacks."""
    if value is None:
        raise InvalidQuery(f"a search of type {mode!r} needs a {field}, got none", field=field)
    return value


def leg_depth(k: int) -> int:
    """How many hits each leg of a hybrid search is asked for."""
    return min(max(2 * k, _LEG_DEPTH), MAX_K)


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
