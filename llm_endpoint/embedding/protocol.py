"""What an embedder is, whatever computes the vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """Which vectors these are: an index refuses an embedder whose id, weights or dim differ."""

    id: str
    weights_sha256: str
    dim: int
    max_tokens: int
    tokenizer_file: Path | None


class Embedder(Protocol):
    """Text in, L2-normalised float32 vectors out. Safe to call from several threads at once."""

    @property
    def info(self) -> EmbedderInfo: ...

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of questions, shape (n, dim), in the order given. Raises InvalidText."""
        ...

    def embed_passages(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Vectors of passages, shape (n, dim), in the order given. Raises InvalidText.

        `on_progress` is called with the number of texts newly done; the calls add up to n.
        """
        ...

    def close(self) -> None:
        """Free the weights. Calling it twice is fine; embedding afterwards is an error."""
        ...


@runtime_checkable
class TokenEmbedder(Protocol):
    """Text in, one vector for each of its tokens out. Safe to call from several threads at once."""

    @property
    def info(self) -> EmbedderInfo: ...

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """For each text, in the order given, (tokens, dim), L2-normalised, in the text's order.

        Tokens that the model adds ([CLS], [SEP]) are left out: a text without content has shape
        (0, dim). Raises InvalidText.
        """
        ...


Purpose = Literal["query", "passage"]
"""What a text is to a model that words the two differently (E5: "query: ", "passage: ")."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: float32 (n, dim), L2-normalised, in the order given. `tokens`: of all inputs, as
    the model saw them (after truncation, with its special tokens)."""

    vectors: NDArray[np.float32]
    tokens: int


class TextEmbeddings(Protocol):
    """An embedder asked from an event loop, by many requests at once."""

    @property
    def info(self) -> EmbedderInfo: ...

    async def embed(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        purpose: Purpose = "passage",
        may_cut: bool = False,
        timeout_s: float = 60.0,
    ) -> Embedded:
        """Vectors of texts, or of texts as token ids of this model's own tokenizer.

        may_cut: of a text longer than the model reads, take the beginning; else InputTooLong.
        Raises InvalidText, InvalidTokens, an EngineError within `timeout_s`, EngineBusy where too
        much waits.
        """
        ...
