"""The chain: retrieve, enrich, prompt, generate, cite."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from feature_store.features import Feature
from llm_endpoint.embedding.protocol import Embedder
from llm_endpoint.generation import GenerationRequest, Generator, Message, TokenUsage
from rag_chain.answer import Answer
from rag_chain.citations import cite
from rag_chain.enrichment import Enriched, FeatureSource, enrich
from rag_chain.errors import InvalidQuestion, InvalidUser
from rag_chain.prompt import build_prompt
from rag_chain.second_stage import SecondStage, base_scores, by_score
from vector_index.checks import check_k
from vector_index.filters import Filter
from vector_index.passages import Access, Hit, IndexVersion, Lag, SearchResult
from vector_index.protocol import MAX_K, VectorIndex

_T = TypeVar("_T")

MAX_QUESTION_CHARACTERS = 4000
MAX_USER_CHARACTERS = 256
# Features can only move up what was retrieved: this many candidates for each passage wanted.
_CANDIDATES_PER_HIT = 4
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
    """A question with its prompt: `kept` are the passages in it, best first."""

    messages: tuple[Message, ...]
    kept: tuple[Hit, ...]
    version: IndexVersion
    features: tuple[Feature, ...]
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
        features: FeatureSource | None = None,
        second_stage: SecondStage | None = None,
        executor: Executor | None = None,
        lag: Callable[[], Lag | None] = lambda: None,
    ) -> None:
        """features: what ranks passages beside their score and words the prompt for a user.

        second_stage: what scores the relevant passages in place of their cosine.
        executor: where embedding, search and feature reads run (None: the loop's default pool).
        lag: called once per answer, on the event loop; it must not block.
        """
        self._index = index
        self._embedder = embedder
        self._generator = generator
        self._limits = limits
        self._features = features
        self._second_stage = second_stage
        self._executor = executor
        self._lag = lag

    @property
    def index(self) -> VectorIndex:
        """The index that questions are answered from."""
        return self._index

    async def answer(
        self,
        question: str,
        *,
        access: Access,
        k: int | None = None,
        where: Filter | None = None,
        user: str | None = None,
    ) -> Answer:
        """The answer with citations checked, or DONT_KNOW when nothing relevant is visible.

        user: a key of the user view; None asks as nobody in particular.
        Raises InvalidQuestion, InvalidUser, UnknownUser, or an error of the rooms below.
        """
        prepared = await self.prepare(question, access=access, k=k, where=where, user=user)
        if not prepared.kept:
            return self._unknown(prepared)
        started = time.perf_counter()
        completion = await self._generator.generate(self._request(prepared))
        return self._answer(completion.text, prepared, completion.usage, started)

    async def stream(
        self,
        question: str,
        *,
        access: Access,
        k: int | None = None,
        where: Filter | None = None,
        user: str | None = None,
    ) -> AsyncGenerator[str | Answer, None]:
        """Pieces of the model's text as they are written, then the Answer, citations checked.

        The pieces are as the model wrote them; only the Answer's text has true markers.
        Raises as `answer` does, also between pieces.
        """
        prepared = await self.prepare(question, access=access, k=k, where=where, user=user)
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
        self,
        question: str,
        *,
        access: Access,
        k: int | None = None,
        where: Filter | None = None,
        user: str | None = None,
    ) -> Prepared:
        """Everything before generation: retrieved passages and the prompt made of them."""
        check_question(question)
        k = self._limits.k if k is None else k
        # A k that the index would refuse must not cost an embedding first.
        check_k(k)
        if user is not None:
            self._check_user(user)

        def retrieve() -> tuple[SearchResult, dict[str, float]]:
            return self._retrieve(question, access, k, where)

        found, timings = await self._off_loop(retrieve)
        enriched = await self._rank(question, found.hits, user, timings)
        started = time.perf_counter()
        messages, kept = await build_prompt(
            question,
            enriched.hits[:k],
            profile=enriched.profile,
            budget_tokens=self._limits.prompt_tokens,
            count_tokens=self._generator.count_tokens,
        )
        timings["prompt"] = time.perf_counter() - started
        return Prepared(messages, kept, found.version, enriched.features(kept), timings)

    async def search(
        self, text: str, *, access: Access, k: int, where: Filter | None = None
    ) -> SearchResult:
        """The k passages nearest to a text, off the event loop. Raises as `prepare` does."""
        check_question(text)
        check_k(k)
        return await self._off_loop(lambda: self._search(text, access, k, where))

    def _retrieve(
        self, question: str, access: Access, k: int, where: Filter | None
    ) -> tuple[SearchResult, dict[str, float]]:
        """What may be relevant, by cosine, and the seconds it took to find."""
        started = time.perf_counter()
        candidates = k if self._features is None else k * _CANDIDATES_PER_HIT
        if self._second_stage is not None:
            candidates = max(candidates, self._second_stage.candidates)
        found = self._search(question, access, min(candidates, MAX_K), where)
        return found, {"retrieve": time.perf_counter() - started}

    async def _rank(
        self, question: str, found: tuple[Hit, ...], user: str | None, timings: dict[str, float]
    ) -> Enriched:
        """What is relevant, in its final order; adds the seconds of each step to `timings`."""
        hits = tuple(hit for hit in found if hit.score >= self._limits.min_score)
        scores = None
        if (stage := self._second_stage) is not None:
            started = time.perf_counter()
            scores = await base_scores(question, hits, stage)
            timings["rerank"] = time.perf_counter() - started
        if (features := self._features) is None:
            return Enriched(hits if scores is None else by_score(hits, scores))
        started = time.perf_counter()
        enriched = await self._off_loop(lambda: enrich(hits, user, features, scores=scores))
        timings["features"] = time.perf_counter() - started
        return enriched

    def _search(self, text: str, access: Access, k: int, where: Filter | None) -> SearchResult:
        vector = self._embedder.embed_queries([text])[0]
        return self._index.search(vector, k=k, access=access, where=where)

    async def _off_loop(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _check_user(self, user: str) -> None:
        if self._features is None:
            raise InvalidUser(
                f"user {user!r} was given, but there is no feature store to look in; leave `user` "
                "out, or configure `features`"
            )
        if not user or len(user) > MAX_USER_CHARACTERS:
            raise InvalidUser(
                f"the user has {len(user)} characters; 1 to {MAX_USER_CHARACTERS} are allowed"
            )
        if (position := _first_not_text(user)) is not None:
            raise InvalidUser(_not_text("user", user, position))

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
            version=prepared.version,
            model=self._generator.info.model,
            usage=usage,
            timings_s=timings,
            features=prepared.features,
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
    if (position := _first_not_text(question)) is not None:
        raise InvalidQuestion(_not_text("question", question, position))


def _first_not_text(text: str) -> int | None:
    """The position of the first NUL or lone surrogate."""
    found = (i for i, c in enumerate(text) if c == "\0" or 0xD800 <= ord(c) <= 0xDFFF)
    return next(found, None)


def _not_text(what: str, text: str, position: int) -> str:
    return f"character {position} of the {what} is U+{ord(text[position]):04X}, not text"
