"""An encoder in its caller's own thread."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.batching import batches
from llm_endpoint.embedding.encoder import Encoder, Tokens
from llm_endpoint.embedding.prefixes import Prefixes
from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.text import check_texts

# Texts tokenised and sorted together: bounds memory and keeps progress moving.
WINDOW_TEXTS = 512


class DirectEmbedder:
    """An Embedder and TokenEmbedder; as safe across threads as its encoder is."""

    def __init__(self, encoder: Encoder, prefixes: Prefixes = Prefixes()) -> None:
        self._encoder, self._prefixes = encoder, prefixes
        self._info = prefixes.identity(encoder.info)

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embed(self._prefixes.put(texts, "query"), None)

    def embed_passages(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        return self._embed(self._prefixes.put(texts, "passage"), on_progress)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        check_texts(texts)
        vectors = [np.empty((0, self.info.dim), dtype=np.float32)] * len(texts)
        for positions, batch in self._tokenized(texts):
            for position, found in zip(positions, self._encoder.encode_tokens(batch), strict=True):
                vectors[position] = found
        return vectors

    def close(self) -> None:
        self._encoder.close()

    def _embed(
        self, texts: Sequence[str], on_progress: Callable[[int], None] | None
    ) -> NDArray[np.float32]:
        check_texts(texts)
        vectors = np.empty((len(texts), self.info.dim), dtype=np.float32)
        for positions, batch in self._tokenized(texts):
            vectors[positions] = self._encoder.encode(batch)
            if on_progress:
                on_progress(len(batch))
        return vectors

    def _tokenized(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[Tokens]]]:
        """Every text once, in batches, with its positions in `texts`."""
        for start in range(0, len(texts), WINDOW_TEXTS):
            window = self._encoder.tokens_of_texts(texts[start : start + WINDOW_TEXTS])
            for positions in batches(window):
                yield [start + at for at in positions], [window[at] for at in positions]
