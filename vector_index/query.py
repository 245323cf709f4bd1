"""What a search asks for: how passages are found, and how much each way counts."""

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import InvalidQuery
from vector_index.fusion import RANK_OFFSET

# How passages are found: by their vectors, by their words, or by both, fused by rank.
QueryType = Literal["ann", "full_text", "hybrid"]


def check_query_type(name: str) -> QueryType:
    """The name itself. Raises InvalidQuery unless it is a QueryType."""
    if name not in get_args(QueryType):
        allowed = ", ".join(get_args(QueryType))
        raise InvalidQuery(f"unknown query type {name!r}; allowed: {allowed}", field="query_type")
    return cast(QueryType, name)


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

    @property
    def best_score(self) -> float:
        """The fused score of a passage that is first in both legs: no score is higher."""
        return (self.ann + self.full_text) / (RANK_OFFSET + 1)


EQUAL = LegWeights()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search looks for: k passages by vector, by words or by both."""

    vector: NDArray[np.float32] | None
    text: str | None
    mode: QueryType
    k: int
    weights: LegWeights = EQUAL
