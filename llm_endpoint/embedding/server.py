"""One embedding model for everybody: questions first, bulk behind, repeated questions remembered.

    questions, /v1/embeddings --> interactive lane: encoder on a thread
    syncs, proofs             --> bulk lane: a second encoder on a thread of low priority

Two encoders, because a batch under way cannot be interrupted: with one, a question waited for the
bulk's batch. The operating system shares the cores between the two by their niceness, so a
question costs hardly more beside a sync, and a sync alone has the machine.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.encoder import Encoder, Tokens
from llm_endpoint.embedding.lane import Lane, LaneLimits, LaneState, Vectors
from llm_endpoint.embedding.prefixes import Prefixes
from llm_endpoint.embedding.protocol import Embedded, Embedder, EmbedderInfo, Purpose
from llm_endpoint.embedding.query_cache import CacheState, QueryCache
from llm_endpoint.errors import EngineTimeout, InputTooLong
from llm_endpoint.text import check_texts

# Encoders of one server; see above.
LANES = 2
# A text of the longest kind takes 20 ms: with 32 of them a question waits 0.6 s at worst.
_INTERACTIVE = LaneLimits(window=32, most_waiting=4096)
# The larger the window, the less is padding; a bulk batch waits for nobody.
_BULK = LaneLimits(window=512, niceness=10)
_CACHE_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class ServerState:
    interactive: LaneState
    bulk: LaneState | None
    cache: CacheState


class EmbeddingServer:
    """An Embedder, a TokenEmbedder and a TextEmbeddings; `bulk` is the same behind all others."""

    def __init__(
        self,
        build: Callable[[], Encoder],
        *,
        prefixes: Prefixes = Prefixes(),
        cache_bytes: int = _CACHE_BYTES,
        interactive: LaneLimits = _INTERACTIVE,
        bulk: LaneLimits | None = _BULK,
    ) -> None:
        """build: a new encoder at each call, once for each lane. bulk: None for a model that is
        never used for much at once, which saves its second copy."""
        self._interactive = Lane(build, "interactive", interactive)
        self._bulk = None if bulk is None else Lane(build, "bulk", bulk)
        self._prefixes = prefixes
        self._cache = QueryCache(cache_bytes)
        self._info = prefixes.identity(self._interactive.encoder.info)

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    @property
    def bulk(self) -> Embedder:
        """For much at once: never in front of a question, and it waits as long as it takes."""
        lane = self._bulk or self._interactive
        return _LaneEmbedder(lane, self._info, self._prefixes)

    def state(self) -> ServerState:
        bulk = None if self._bulk is None else self._bulk.state()
        return ServerState(self._interactive.state(), bulk, self._cache.state())

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `Embedder.embed_queries`. Raises EngineBusy too."""
        if len(texts) == 1 and (known := self._cache.get(texts[0])) is not None:
            return known[np.newaxis].copy()
        vectors = self._face().embed_queries(texts)
        if len(texts) == 1:
            self._cache.put(texts[0], vectors[0])
        return vectors

    def embed_passages(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """As `Embedder.embed_passages`. Raises EngineBusy too."""
        return self._face().embed_passages(texts, on_progress=on_progress)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        check_texts(texts)
        tokens = self._interactive.encoder.tokens_of_texts(texts)
        return self._interactive.submit(tokens, by_token=True).result()

    async def embed(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        purpose: Purpose = "passage",
        may_cut: bool = False,
        timeout_s: float = 60.0,
    ) -> Embedded:
        # Tokenising a thousand texts takes a tenth of a second: not on the event loop.
        tokens = await asyncio.to_thread(self._tokens, inputs, purpose)
        if not may_cut:
            _check_lengths(tokens)
        future = self._interactive.submit(tokens)
        try:
            async with asyncio.timeout(timeout_s):
                vectors = await asyncio.wrap_future(future)
        except TimeoutError as exc:
            raise EngineTimeout(self._info.id, timeout_s) from exc
        return Embedded(_stacked(vectors, self._info.dim), sum(map(len, tokens)))

    def close(self) -> None:
        self._interactive.close()
        if self._bulk is not None:
            self._bulk.close()

    def _face(self) -> "_LaneEmbedder":
        return _LaneEmbedder(self._interactive, self._info, self._prefixes)

    def _tokens(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], purpose: Purpose
    ) -> list[Tokens]:
        texts = [one for one in inputs if isinstance(one, str)]
        encoder = self._interactive.encoder
        if not texts:
            return encoder.tokens_of_ids([one for one in inputs if not isinstance(one, str)])
        check_texts(texts)
        return encoder.tokens_of_texts(self._prefixes.put(texts, purpose))


class _LaneEmbedder:
    """An Embedder over one lane; closing it is the server's to do."""

    def __init__(self, lane: Lane, info: EmbedderInfo, prefixes: Prefixes) -> None:
        self._lane, self._info, self._prefixes = lane, info, prefixes

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embed(texts, "query", None)

    def embed_passages(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        return self._embed(texts, "passage", on_progress)

    def close(self) -> None:
        pass

    def _embed(
        self, texts: Sequence[str], purpose: Purpose, on_progress: Callable[[int], None] | None
    ) -> NDArray[np.float32]:
        check_texts(texts)
        vectors = np.empty((len(texts), self._info.dim), np.float32)
        window = self._lane.window
        waiting: list[tuple[int, Future[Vectors]]] = []
        # Two windows ahead: the next is tokenised while one is encoded, and memory stays bounded.
        for first in range(0, len(texts), window):
            some = self._prefixes.put(texts[first : first + window], purpose)
            tokens = self._lane.encoder.tokens_of_texts(some)
            waiting.append((first, self._lane.submit(tokens, on_progress=on_progress)))
            if len(waiting) > 1:
                _put(vectors, *waiting.pop(0))
        for first, future in waiting:
            _put(vectors, first, future)
        return vectors


def _check_lengths(tokens: Sequence[Tokens]) -> None:
    for index, one in enumerate(tokens):
        if one.cut:
            raise InputTooLong(index, len(one) + one.cut, len(one))


def _put(vectors: NDArray[np.float32], first: int, future: "Future[Vectors]") -> None:
    made = future.result()
    vectors[first : first + len(made)] = made


def _stacked(vectors: Vectors, dim: int) -> NDArray[np.float32]:
    return np.stack(vectors) if vectors else np.empty((0, dim), np.float32)
