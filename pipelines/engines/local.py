"""The step in this process, batch after batch."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.engines.protocol import Known
from pipelines.step import Cut, Made, Recipe, cut, embed

# Texts whose vectors are remembered in case a later document repeats them.
_REMEMBERED = 20_000


@dataclass(slots=True)
class LocalEngine:
    """An `Engine` of one embedder. A text that was made lately is not embedded again."""

    embedder: Embedder
    chunk: Chunker
    _fresh: dict[str, NDArray[np.float32]] = field(default_factory=dict, init=False)

    def run(
        self,
        batches: Iterator[pa.RecordBatch],
        recipe: Recipe,
        *,
        known: Known | None,
        on_share: Callable[[float], None] | None = None,
    ) -> Iterator[Made]:
        """As `Engine.run`."""
        on_texts = None if on_share is None else lambda done, of: on_share(done / of)
        for batch in batches:
            piece = cut(batch, recipe, self.chunk)
            vectors = self._vectors(piece, known) if piece.vectors is None else {}
            made = embed(piece, vectors, recipe, self.embedder, on_texts=on_texts)
            if made.embedded:
                self._remember(made, vectors.keys())
            yield made

    def _vectors(self, piece: Cut, known: Known | None) -> dict[str, NDArray[np.float32]]:
        hashes = set(piece.passages["text_hash"].to_pylist())
        vectors = {one: self._fresh[one] for one in hashes & self._fresh.keys()}
        if known is not None:
            vectors.update(known(hashes - vectors.keys(), piece.keys))
        return vectors

    def _remember(self, made: Made, before: Collection[str]) -> None:
        hashes: Mapping[str, int] = {
            one: row
            for row, one in enumerate(made.passages["text_hash"].to_pylist())
            if one not in before
        }
        self._fresh.update((one, made.vectors[row]) for one, row in hashes.items())
        for old in list(islice(self._fresh, max(0, len(self._fresh) - _REMEMBERED))):
            del self._fresh[old]
