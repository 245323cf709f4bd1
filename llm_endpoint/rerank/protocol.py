"""What a reranker is, whatever computes the scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RerankerInfo:
    """`weights_sha256` is None where there are no weights or they are not ours to see."""

    model: str
    engine: str
    weights_sha256: str | None


class Reranker(Protocol):
    """Reads question and text together: slower than comparing two vectors, and sees more.

    Asynchronous because one of them waits on a network; those that compute do so on the executor
    they were given, never on the event loop. Safe to call many times at once.
    """

    @property
    def info(self) -> RerankerInfo: ...

    async def rerank(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well each text answers the question: finite, shape (n,), in the order given.

        Higher is better; each reranker says on which scale. Scores of one call compare with each
        other only. Raises InvalidText or an EngineError.
        """
        ...

    async def close(self) -> None:
        """Free what it holds. Calling it twice is fine."""
        ...
