"""What an embedding server drives: a model that turns token ids into vectors, a batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import EmbedderInfo


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text as the model reads it. content: the half-open range without what the model adds.

    cut: how many more there are that the model has no room for; of a text so long that its end is
    not even tokenised, at least so many.
    """

    ids: Sequence[int]
    content: tuple[int, int]
    cut: int = 0

    def __len__(self) -> int:
        return len(self.ids)


class Encoder(Protocol):
    """Not safe across threads, but for `tokens_of_*`: an encoder belongs to one thread."""

    @property
    def info(self) -> EmbedderInfo: ...

    def tokens_of_texts(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text, cut where it is too long; `check_texts` has seen them."""
        ...

    def tokens_of_ids(self, ids: Sequence[Sequence[int]]) -> list[Tokens]:
        """Each list of this model's own token ids, as of a text. Raises InvalidTokens."""
        ...

    def encode(self, batch: Sequence[Tokens]) -> NDArray[np.float32]:
        """A vector for each, float32 (n, dim), L2-normalised."""
        ...

    def encode_tokens(self, batch: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """For each a vector of each content token, float32 (tokens, dim), L2-normalised."""
        ...

    def close(self) -> None: ...
