"""A text becomes the passages nearest to it, off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from llm_endpoint.embedding.protocol import Embedder
from rag_chain.question import check_question
from vector_index.checks import check_k
from vector_index.filters import Filter
from vector_index.passages import Access, SearchResult
from vector_index.protocol import VectorIndex
from vector_index.query import EQUAL, LegWeights, QueryType

_T = TypeVar("_T")


class Retriever:
    """One index and the embedder of its vectors; several chains may share it."""

    def __init__(
        self, index: VectorIndex, embedder: Embedder, *, executor: Executor | None = None
    ) -> None:
        """executor: where embedding and search run (None: the loop's default pool)."""
        self.index = index
        self._embedder = embedder
        self._executor = executor

    async def search(
        self,
        text: str,
        *,
        k: int,
        access: Access,
        where: Filter | None = None,
        mode: QueryType = "ann",
        weights: LegWeights = EQUAL,
    ) -> SearchResult:
        """The k passages that fit the text best, best first, off the event loop.

        Raises InvalidQuestion, or an error of the rooms below.
        """
        check_question(text)
        # A k that the index would refuse must not cost an embedding first.
        check_k(k)
        return await self.off_loop(
            lambda: self.find(text, k=k, access=access, where=where, mode=mode, weights=weights)
        )

    def find(
        self,
        text: str,
        *,
        k: int,
        access: Access,
        where: Filter | None,
        mode: QueryType = "ann",
        weights: LegWeights = EQUAL,
    ) -> SearchResult:
        """As `search`, in the calling thread and unchecked. Every hit carries its cosine."""
        vector = self._embedder.embed_queries([text])[0]
        return self.index.search(
            vector, k=k, access=access, where=where, text=text, mode=mode, weights=weights
        )

    async def off_loop(self, work: Callable[[], _T]) -> _T:
        """Runs `work` on the retriever's executor."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
