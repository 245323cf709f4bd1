"""A text becomes the passages nearest to it, off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from rag_chain.question import check_question
from vector_index.checks import check_k
from vector_index.filters import Filter
from vector_index.passages import Access, SearchResult
from vector_index.protocol import VectorIndex
from vector_index.query import EQUAL, LegWeights, QueryType

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is looked for, who may see it, and how; see VectorIndex.search."""

    text: str
    k: int
    access: Access
    where: Filter | None = None
    mode: QueryType = "ann"
    weights: LegWeights = EQUAL


class Retriever:
    """One index and the embedder of its vectors; several chains may share it."""

    def __init__(
        self, index: VectorIndex, embedder: Embedder, *, executor: Executor | None = None
    ) -> None:
        """executor: where embedding and search run (None: the loop's default pool)."""
        self.index = index
        self._embedder = embedder
        self._executor = executor

    async def search(self, lookup: Lookup) -> SearchResult:
        """The k passages that fit the text best, best first, off the event loop.

        Raises InvalidQuestion, or an error of the rooms below.
        """
        check_question(lookup.text)
        # A k that the index would refuse must not cost an embedding first.
        check_k(lookup.k)
        return await self.off_loop(lambda: self.find(lookup))

    def find(self, lookup: Lookup) -> SearchResult:
        """As `search`, in the calling thread and unchecked. Every hit carries its cosine."""
        return self.look_up(self.embed(lookup.text), lookup)

    def embed(self, text: str) -> NDArray[np.float32]:
        """The vector of a question, float32 (dim,)."""
        vector: NDArray[np.float32] = self._embedder.embed_queries([text])[0]
        return vector

    def look_up(self, vector: NDArray[np.float32], lookup: Lookup) -> SearchResult:
        """As `find`, with the text's vector at hand."""
        return self.index.search(
            vector,
            k=lookup.k,
            access=lookup.access,
            where=lookup.where,
            text=lookup.text,
            mode=lookup.mode,
            weights=lookup.weights,
        )

    async def off_loop(self, work: Callable[[], _T]) -> _T:
        """Runs `work` on the retriever's executor."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
