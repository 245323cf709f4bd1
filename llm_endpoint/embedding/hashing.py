"""The small honest embedder: signed feature hashing of words. No weights, no meaning, no network.

For tests and air-gapped smoke runs. Texts that share words are close, synonyms are not.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.direct import DirectEmbedder
from llm_endpoint.embedding.encoder import Tokens
from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.errors import InvalidTokens

_WORD = re.compile(r"\w+")
_ALGORITHM = "signed-feature-hashing/blake2b-64/lower-words/1"


class HashingEncoder:
    """A token is a word; its id is twice its axis, plus one where its sign is positive."""

    def __init__(self, dim: int = 64) -> None:
        if dim < 2:
            raise ValueError(f"dim is {dim}; a hashing embedder needs at least 2")
        self._info = EmbedderInfo(
            id=f"hashing-{dim}",
            # No weights: the digest of the algorithm's name stands for them, so that a change
            # of the algorithm makes old indexes refuse to load.
            weights_sha256=blake2b(_ALGORITHM.encode(), digest_size=32).hexdigest(),
            dim=dim,
            max_tokens=1_000_000,
            tokenizer_file=None,
        )

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    def tokens_of_texts(self, texts: Sequence[str]) -> list[Tokens]:
        return [self._tokens([self._id(w) for w in _WORD.findall(t.lower())]) for t in texts]

    def tokens_of_ids(self, ids: Sequence[Sequence[int]]) -> list[Tokens]:
        vocabulary = 2 * self._info.dim
        for index, one in enumerate(ids):
            for token in one:
                if not 0 <= token < vocabulary:
                    raise InvalidTokens(index, token, vocabulary)
        return [self._tokens(one) for one in ids]

    def encode(self, batch: Sequence[Tokens]) -> NDArray[np.float32]:
        """A text without words, or whose words cancel out, gets the first axis: every vector
        handed out has length 1, so an inner product is always a cosine."""
        vectors = np.array([states.sum(axis=0) for states in self.encode_tokens(batch)])
        vectors[~vectors.any(axis=1), 0] = 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def encode_tokens(self, batch: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """The vector of a word is its signed axis."""
        return [self._axes(np.asarray(tokens.ids, np.int64)) for tokens in batch]

    def close(self) -> None:
        pass

    def _tokens(self, ids: Sequence[int]) -> Tokens:
        return Tokens(ids, (0, len(ids)))

    def _id(self, word: str) -> int:
        digest = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        return 2 * (digest % self._info.dim) + (digest >> 63)

    def _axes(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors = np.zeros((len(ids), self._info.dim), np.float32)
        vectors[np.arange(len(ids)), ids // 2] = np.where(ids % 2, 1.0, -1.0)
        return vectors


class HashingEmbedder(DirectEmbedder):
    """Same words, same vector, on every machine and in every process."""

    def __init__(self, dim: int = 64) -> None:
        super().__init__(HashingEncoder(dim))
