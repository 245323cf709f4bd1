"""One ranking out of several whose scores do not compare."""

from collections.abc import Sequence
from typing import TypeVar

# Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
# learning methods", SIGIR 2009: they fixed it at 60 and found the choice not critical.
RANK_OFFSET = 60

# Passages are ranked by (document id, ordinal), or by where a segment holds them.
Key = TypeVar("Key", bound=tuple[str, int] | tuple[int, int])


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Key]], weights: Sequence[float]
) -> list[tuple[Key, float]]:
    """Every key of any ranking with its fused score, best first, ties by key.

    score(key) = sum over the rankings that hold it of weight / (RANK_OFFSET + rank), with ranks
    from 1. A key twice in one ranking counts at its better rank. Raises ValueError unless there
    is one weight a ranking.
    """
    scores: dict[Key, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] = scores.get(key, 0.0) + weight / (RANK_OFFSET + rank)
    return sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
