"""The chain: retrieve, prompt, generate, cite."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from llm_endpoint.embedding.protocol import Embedder
from llm_endpoint.generation import GenerationRequest, Generator, Message, TokenUsage
from rag_chain.answer import Answer
from rag_chain.citations import cite
from rag_chain.errors import InvalidQuestion
from rag_chain.prompt import build_prompt
from vector_index.checks import check_k
from vector_index.filters import Filter
from vector_index.passages import Access, Hit, Lag, SearchResult
from vector_index.protocol import VectorIndex

MAX_QUESTION_CHARACTERS = 4000
# A model of this size repeats its first paragraph; what follows it is never better.
PARAGRAPH = "\n\n"
DONT_KNOW = "I do not know: no passage in the index is relevant to this question."


@dataclass(frozen=True, slots=True)
class ChainLimits:
    """min_score: cosine below which a passage is not relevant. Budgets are in tokens."""

    k: int = 3
    min_score: float = 0.35
    prompt_tokens: int = 900
    answer_tokens: int = 96


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question with its prompt: `kept` are the passages in it, best first, of all `found`."""

    messages: tuple[Message, ...]
    kept: tuple[Hit, ...]
    found: SearchResult
    timings_s: Mapping[str, float]


class Chain:
    """Answers questions from one index with one model."""

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder,
        generator: Generator,
        *,
        limits: ChainLimits,
        executor: Executor | None = None,
        lag: Callable[[], Lag | None] = lambda: None,
    ) -> None:
        """executor: where embedding and search run (None: the event loop's default pool).

        lag: called once per answer, on the event loop; it must not block.
        """
        self._index = index
        self._embedder = embedder
        self._generator = generator
        self._limits = limits
        self._executor = executor
        self._lag = lag

    @property
    def index(self) -> VectorIndex:
        """The index that questions are answered from."""
        return self._index

    async def answer(
        self, question: str, *, access: Access, k: int | None = None, where: Filter | None = None
    ) -> Answer:
        """The answer with citations checked, or DONT_KNOW when nothing relevant is visible.

        Raises InvalidQuestion, VectorIndexError or LlmEndpointError.
        """
        prepared = await self.prepare(question, access=access, k=k, where=where)
        if not prepared.kept:
            return self._unknown(prepared)
        started = time.perf_counter()
        completion = await self._generator.generate(self._request(prepared))
        return self._answer(completion.text, prepared, completion.usage, started)

    async def stream(
        self, question: str, *, access: Access, k: int | None = None, where: Filter | None = None
    ) -> AsyncGenerator[str | Answer, None]:
        """Pieces of the model's text as they are written, then the Answer, citations checked.

        The pieces are as the model wrote them; only the Answer's text has true markers.
        Raises as `answer` does, also between pieces.
        """
        prepared = await self.prepare(question, access=access, k=k, where=where)
        if not prepared.kept:
            yield DONT_KNOW
            yield self._unknown(prepared)
            return
        started = time.perf_counter()
        pieces: list[str] = []
        usage = TokenUsage(0, 0)
        async with contextlib.aclosing(self._generator.stream(self._request(prepared))) as deltas:
            async for delta in deltas:
                usage = delta.usage or usage
                if delta.text:
                    pieces.append(delta.text)
                    yield delta.text
        yield self._answer("".join(pieces), prepared, usage, started)

    async def prepare(
        self, question: str, *, access: Access, k: int | None = None, where: Filter | None = None
    ) -> Prepared:
        """Everything before generation: retrieved passages and the prompt made of them."""
        check_question(question)
        started = time.perf_counter()
        found = await self.search(
            question, access=access, k=self._limits.k if k is None else k, where=where
        )
        relevant = tuple(hit for hit in found.hits if hit.score >= self._limits.min_score)
        retrieved = time.perf_counter()
        messages, kept = await build_prompt(
            question,
            relevant,
            budget_tokens=self._limits.prompt_tokens,
            count_tokens=self._generator.count_tokens,
        )
        timings = {"retrieve": retrieved - started, "prompt": time.perf_counter() - retrieved}
        return Prepared(messages, kept, found, timings)

    async def search(
        self, text: str, *, access: Access, k: int, where: Filter | None = None
    ) -> SearchResult:
        """The k passages nearest to a text, off the event loop. Raises as `prepare` does."""
        check_question(text)
        # A k that the index would refuse must not cost an embedding first.
        check_k(k)

        def retrieve() -> SearchResult:
            vector = self._embedder.embed_queries([text])[0]
            return self._index.search(vector, k=k, access=access, where=where)

        return await asyncio.get_running_loop().run_in_executor(self._executor, retrieve)

    def _request(self, prepared: Prepared) -> GenerationRequest:
        return GenerationRequest(
            prepared.messages, max_tokens=self._limits.answer_tokens, stop=(PARAGRAPH,)
        )

    def _unknown(self, prepared: Prepared) -> Answer:
        return self._answer(DONT_KNOW, prepared, TokenUsage(0, 0), None)

    def _answer(
        self, text: str, prepared: Prepared, usage: TokenUsage, started: float | None
    ) -> Answer:
        cited, citations = cite(text, prepared.kept) if prepared.kept else (text, ())
        timings = dict(prepared.timings_s)
        if started is not None:
            timings["generate"] = time.perf_counter() - started
        return Answer(
            text=cited,
            is_known=bool(prepared.kept),
            citations=citations,
            version=prepared.found.version,
            model=self._generator.info.model,
            usage=usage,
            timings_s=timings,
            lag=self._lag(),
        )


def check_question(question: str) -> None:
    """Raises InvalidQuestion for text that is empty, too long, or holds NUL or a surrogate."""
    if not question.strip():
        raise InvalidQuestion("the question is empty; ask something")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise InvalidQuestion(
            f"the question has {len(question)} characters; at most {MAX_QUESTION_CHARACTERS}"
        )
    for position, character in enumerate(question):
        if character == "\0" or 0xD800 <= ord(character) <= 0xDFFF:
            raise InvalidQuestion(
                f"character {position} of the question is U+{ord(character):04X}, not text"
            )
