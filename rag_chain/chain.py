"""The chain: retrieve, prompt, generate, cite."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from llm_endpoint.embedding.protocol import Embedder
from llm_endpoint.generation import GenerationRequest, Generator, TokenUsage
from rag_chain.answer import Answer
from rag_chain.citations import cite
from rag_chain.errors import InvalidQuestion
from rag_chain.prompt import build_prompt
from vector_index.filters import Filter
from vector_index.passages import Access, Hit, SearchResult
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


class Chain:
    """Answers questions from one index with one model."""

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder,
        generator: Generator,
        *,
        limits: ChainLimits,
        lag_versions: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._generator = generator
        self._limits = limits
        self._lag_versions = lag_versions

    async def answer(
        self, question: str, *, access: Access, k: int | None = None, where: Filter | None = None
    ) -> Answer:
        """The answer with citations checked, or DONT_KNOW when nothing relevant is visible.

        Raises InvalidQuestion, VectorIndexError or LlmEndpointError.
        """
        check_question(question)
        started = time.perf_counter()
        found = self._retrieve(question, access, k or self._limits.k, where)
        relevant = tuple(hit for hit in found.hits if hit.score >= self._limits.min_score)
        retrieved = time.perf_counter()
        messages, kept = await build_prompt(
            question,
            relevant,
            budget_tokens=self._limits.prompt_tokens,
            count_tokens=self._generator.count_tokens,
        )
        prompted = time.perf_counter()
        timings = {"retrieve": retrieved - started, "prompt": prompted - retrieved}
        if not kept:
            return self._answer(DONT_KNOW, (), found, TokenUsage(0, 0), timings)
        request = GenerationRequest(
            messages, max_tokens=self._limits.answer_tokens, stop=(PARAGRAPH,)
        )
        completion = await self._generator.generate(request)
        timings["generate"] = time.perf_counter() - prompted
        return self._answer(completion.text, kept, found, completion.usage, timings)

    def _retrieve(
        self, question: str, access: Access, k: int, where: Filter | None
    ) -> SearchResult:
        vector = self._embedder.embed_queries([question])[0]
        return self._index.search(vector, k=k, access=access, where=where)

    def _answer(
        self,
        text: str,
        kept: tuple[Hit, ...],
        found: SearchResult,
        usage: TokenUsage,
        timings: dict[str, float],
    ) -> Answer:
        cited, citations = cite(text, kept) if kept else (text, ())
        return Answer(
            text=cited,
            is_known=bool(kept),
            citations=citations,
            version=found.version,
            model=self._generator.info.model,
            usage=usage,
            timings_s=timings,
            lag_versions=self._lag_versions(),
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
