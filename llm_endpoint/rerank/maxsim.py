"""Late interaction over the embedder's own token vectors: no further weights to load.

ColBERT's MaxSim (Khattab and Zaharia, SIGIR 2020): each token of the question is matched with the
nearest token of the text. ColBERT adds these cosines up; here they are averaged, so that a score
does not grow with the question. ColBERT is trained for it, an embedder that pools is not; that the
default one gains by it all the same was measured (benchmarks/rerank.py). The passages' tokens are
computed again for every question, which is what it costs: half a second to two on 2 cores.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import TokenEmbedder
from llm_endpoint.rerank.protocol import RerankerInfo
from llm_endpoint.text import check_texts

# Token vectors of a full text take 0.4 MB (256 x 384 x 4 bytes): this many are held at once.
_CHUNK_TEXTS = 64


class MaxSimReranker:
    """A score is a mean of cosines, -1..1; 0 where question or text has no token."""

    def __init__(self, embedder: TokenEmbedder, *, executor: Executor | None = None) -> None:
        """The embedder stays its owner's to close. executor: None is the loop's default pool."""
        self._embedder = embedder
        self._executor = executor

    @property
    def info(self) -> RerankerInfo:
        embedder = self._embedder.info
        return RerankerInfo(f"maxsim-{embedder.id}", "maxsim", embedder.weights_sha256)

    async def rerank(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._scores, question, texts)

    async def close(self) -> None:
        pass

    def _scores(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts(texts)
        (asked,) = self._embedder.embed_tokens([question])
        scores = np.empty(len(texts), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK_TEXTS):
            tokens = self._embedder.embed_tokens(texts[start : start + _CHUNK_TEXTS])
            scores[start : start + len(tokens)] = [max_sim(asked, vectors) for vectors in tokens]
        return scores


def max_sim(question: NDArray[np.float32], text: NDArray[np.float32]) -> float:
    """The mean, over the question's tokens, of the highest cosine with a token of the text.

    question: (tokens, dim), text: (tokens, dim), both L2-normalised. 0.0 where one has no token.
    """
    if not len(question) or not len(text):
        return 0.0
    return float((question @ text.T).max(axis=1).mean())
