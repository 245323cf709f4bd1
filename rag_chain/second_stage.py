"""The second stage: a reranker reads the nearest passages again, beside the question."""

from collections.abc import Sequence
from dataclasses import dataclass

from llm_endpoint.rerank import Reranker
from vector_index.passages import Hit
from vector_index.protocol import MAX_K

# Scored by nobody: behind all that were, whatever features add to it.
_UNSCORED = float("-inf")


@dataclass(frozen=True, slots=True)
class SecondStage:
    """Which reranker, and how many of the nearest relevant passages it reads, 1..MAX_K.

    What it costs grows with `candidates`, what it can find too: it cannot lift a passage that it
    never saw. MaxSim on 2 busy cores (benchmarks/rerank.py), nDCG@10 from 0.634 by cosine: 10
    candidates 0.670 in 255 ms, 20 candidates 0.715 in 765 ms, 50 candidates 0.722 in 1,706 ms.
    """

    reranker: Reranker
    candidates: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= MAX_K:
            raise ValueError(
                f"candidates is {self.candidates}; it must be between 1 and {MAX_K}, the most "
                "that one search returns"
            )


async def base_scores(question: str, hits: Sequence[Hit], stage: SecondStage) -> tuple[float, ...]:
    """What ranks each hit in place of its cosine, before features add to it; in the order given.

    That is the reranker's score, on the reranker's own scale, for the first `candidates` hits,
    and -inf for those behind them, which thereby stay behind and in their order. The hits keep
    their cosine: citations and ChainLimits.min_score speak of it, whatever the reranker.

    Raises InvalidText or an EngineError: an answer ranked otherwise than configured would look
    like any other.
    """
    if not hits:
        return ()
    read = [hit.passage.text for hit in hits[: stage.candidates]]
    scores = await stage.reranker.rerank(question, read)
    return (*scores.tolist(), *[_UNSCORED] * (len(hits) - len(read)))


def by_score(hits: Sequence[Hit], scores: Sequence[float]) -> tuple[Hit, ...]:
    """The hits with the highest score first; equal ones keep their order."""
    order = sorted(range(len(hits)), key=lambda position: -scores[position])
    return tuple(hits[position] for position in order)
