"""The small honest reranker: shared words. No weights, no network, scores to compute by hand.

For tests and air-gapped smoke runs. Words that mean the same are strangers to it.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.rerank.protocol import RerankerInfo
from llm_endpoint.text import check_texts

_WORD = re.compile(r"\w+")


class WordOverlapReranker:
    """A score is the share of the question's words that stand in the text, 0..1.

    A word that the question repeats counts as often; case does not. A question without words
    scores 0 everywhere.
    """

    @property
    def info(self) -> RerankerInfo:
        return RerankerInfo("word-overlap", "overlap", None)

    async def rerank(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts([question])
        check_texts(texts)
        asked = _words(question)
        shares = (sum(word in known for word in asked) for known in map(set, map(_words, texts)))
        counts = np.fromiter(shares, dtype=np.float32, count=len(texts))
        return counts / np.float32(max(len(asked), 1))

    async def close(self) -> None:
        pass


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
