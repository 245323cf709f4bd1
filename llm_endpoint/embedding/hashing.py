"""The small honest embedder: signed feature hashing of words. No weights, no meaning, no network.

For tests and air-gapped smoke runs. Texts that share words are close, synonyms are not.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.text import check_texts

_WORD = re.compile(r"\w+")
_ALGORITHM = "signed-feature-hashing/blake2b-64/lower-words/1"


class HashingEmbedder:
    """Same words, same vector, on every machine and in every process."""

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

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts(texts)
        vectors = np.zeros((len(texts), self._info.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            self._add_words(vectors[row], text)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def embed_passages(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        vectors = self.embed_queries(texts)
        if on_progress and texts:
            on_progress(len(texts))
        return vectors

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """A token is a word, its vector the word's signed axis."""
        check_texts(texts)
        return [self._word_vectors(text) for text in texts]

    def close(self) -> None:
        pass

    def _add_words(self, vector: NDArray[np.float32], text: str) -> None:
        # A text without words, or whose words cancel out, gets the first axis: every vector
        # handed out has length 1, so an inner product is always a cosine.
        for axis, sign in self._axes(text):
            vector[axis] += sign
        if not vector.any():
            vector[0] = 1.0

    def _word_vectors(self, text: str) -> NDArray[np.float32]:
        axes = list(self._axes(text))
        vectors = np.zeros((len(axes), self._info.dim), dtype=np.float32)
        for row, (axis, sign) in enumerate(axes):
            vectors[row, axis] = sign
        return vectors

    def _axes(self, text: str) -> Iterator[tuple[int, float]]:
        for word in _WORD.findall(text.lower()):
            digest = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
            yield digest % self._info.dim, 1.0 if digest >> 63 else -1.0
