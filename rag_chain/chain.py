"""The chain: retrieve, enrich, prompt, generate, cite."""

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass

from feature_store.features import Feature
from llm_endpoint.generation import GenerationRequest, Generator, Message, TokenUsage
from rag_chain.answer import Answer
from rag_chain.citations import cite
from rag_chain.enrichment import Enriched, FeatureSource, enrich
from rag_chain.errors import InvalidUser
from rag_chain.prompt import build_prompt
from rag_chain.question import Question, check_question, check_user
from rag_chain.retrieval import Lookup, Retriever
from rag_chain.second_stage import SecondStage, base_scores, by_score
from vector_index.checks import check_k
from vector_index.passages import Hit, IndexVersion, Lag, SearchResult, cosine_of
from vector_index.protocol import MAX_K
from vector_index.query import EQUAL, LegWeights, QueryType

# Features can only move up what was retrieved: this many candidates for each passage wanted.
_CANDIDATES_PER_HIT = 4
# A model of this size repeats its first paragraph; what follows it is never better.
PARAGRAPH = "\n\n"
DONT_KNOW = "I do not know: no passage in the index is relevant to this question."


@dataclass(frozen=True, slots=True)
class ChainLimits:
    """How passages are found, and how many. Budgets are in tokens.

    mode, weights: see VectorIndex.search. min_score: cosine below which a passage is not
    relevant, whatever found it.
    """

    mode: QueryType = "ann"
    weights: LegWeights = EQUAL
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
        retriever: Retriever,
        generator: Generator,
        *,
        name: str,
        limits: ChainLimits,
        features: FeatureSource | None = None,
        second_stage: SecondStage | None = None,
        lag: Callable[[], Lag | None] = lambda: None,
    ) -> None:
        """name: what answers say they come from.

        features: what ranks passages beside their score and words the prompt for a user.
        second_stage: what scores the relevant passages in place of their cosine.
        lag: called once per answer, on the event loop; it must not block.
        """
        self.retriever = retriever
        self._generator = generator
        self._name = name
        self._limits = limits
        self._features = features
        self._second_stage = second_stage
        self._lag = lag

    async def answer(self, question: Question) -> Answer:
        """The answer with citations checked, or DONT_KNOW when nothing relevant is visible.

        Raises InvalidQuestion, InvalidUser, UnknownUser, or an error of the rooms below.
        """
        prepared = await self.prepare(question)
        if not prepared.kept:
            return self._unknown(prepared)
        started = time.perf_counter()
        completion = await self._generator.generate(self._request(question, prepared))
        return self._answer(
            completion.text, prepared, completion.usage, started, completion.finish_reason
        )

    async def stream(self, question: Question) -> AsyncGenerator[str | Answer, None]:
        """Pieces of the model's text as they are written, then the Answer, citations checked.

        The pieces are as the model wrote them; only the Answer's text has true markers.
        Raises as `answer` does, also between pieces.
        """
        prepared = await self.prepare(question)
        if not prepared.kept:
            yield DONT_KNOW
            yield self._unknown(prepared)
            return
        started = time.perf_counter()
        pieces: list[str] = []
        usage, reason = TokenUsage(0, 0), "stop"
        request = self._request(question, prepared)
        async with contextlib.aclosing(self._generator.stream(request)) as deltas:
            async for delta in deltas:
                usage, reason = delta.usage or usage, delta.finish_reason or reason
                if delta.text:
                    pieces.append(delta.text)
                    yield delta.text
        yield self._answer("".join(pieces), prepared, usage, started, reason)

    async def prepare(self, question: Question) -> Prepared:
        """Everything before generation: retrieved passages and the prompt made of them."""
        check_question(question.text)
        k = self._limits.k if question.k is None else question.k
        check_k(k)
        if question.user is not None:
            self._check_user(question.user)
        timings: dict[str, float] = {}
        found, enriched = await self._ranked(question, k, timings)
        with _timed(timings, "prompt"):
            messages, kept = await build_prompt(
                question.text,
                enriched.hits[:k],
                profile=enriched.profile,
                budget_tokens=self._limits.prompt_tokens,
                count_tokens=self._generator.count_tokens,
            )
        return Prepared(messages, kept, found.version, enriched.features(kept), timings)

    async def _ranked(
        self, question: Question, k: int, timings: dict[str, float]
    ) -> tuple[SearchResult, Enriched]:
        """What was found, and what of it is relevant, in its final order."""
        off_loop = self.retriever.off_loop
        if (stage := self._second_stage) is None:
            # In one go: a change of threads costs as much as reading a feature.
            return await off_loop(lambda: self._found_and_ranked(question, k, timings))
        found = await off_loop(lambda: self._found(question, k, timings))
        hits = self._relevant(found)
        with _timed(timings, "rerank"):
            scores = await base_scores(question.text, hits, stage)
        return found, await off_loop(lambda: self._enriched(question, hits, scores, timings))

    def _found_and_ranked(
        self, question: Question, k: int, timings: dict[str, float]
    ) -> tuple[SearchResult, Enriched]:
        found = self._found(question, k, timings)
        hits = self._relevant(found)
        return found, self._enriched(question, hits, self._first_scores(hits), timings)

    def _found(self, question: Question, k: int, timings: dict[str, float]) -> SearchResult:
        """More than k where something may still change their order."""
        candidates = k if self._features is None else k * _CANDIDATES_PER_HIT
        if self._second_stage is not None:
            candidates = max(candidates, self._second_stage.candidates)
        lookup = Lookup(
            question.text,
            min(candidates, MAX_K),
            question.access,
            question.where,
            self._limits.mode,
            self._limits.weights,
        )
        with _timed(timings, "embed"):
            vector = self.retriever.embed(question.text)
        with _timed(timings, "search"):
            return self.retriever.look_up(vector, lookup)

    def _relevant(self, found: SearchResult) -> tuple[Hit, ...]:
        return tuple(hit for hit in found.hits if cosine_of(hit) >= self._limits.min_score)

    def _enriched(
        self,
        question: Question,
        hits: tuple[Hit, ...],
        scores: tuple[float, ...],
        timings: dict[str, float],
    ) -> Enriched:
        if self._features is None:
            return Enriched(by_score(hits, scores))
        with _timed(timings, "features"):
            return enrich(hits, question.user, self._features, scores=scores)

    def _first_scores(self, hits: tuple[Hit, ...]) -> tuple[float, ...]:
        """What ranks the hits before a second stage and features: at most 1.0 but for BM25.

        A fused score is given as its share of the highest there can be, so that the weights of
        features mean about the same beside it as beside a cosine.
        """
        unit = self._limits.weights.best_score if self._limits.mode == "hybrid" else 1.0
        return tuple(hit.score / unit for hit in hits)

    def _check_user(self, user: str) -> None:
        if self._features is None:
            raise InvalidUser(
                f"user {user!r} was given, but there is no feature store to look in; leave `user` "
                "out, or configure the chain's `features`"
            )
        check_user(user)

    def _request(self, question: Question, prepared: Prepared) -> GenerationRequest:
        most = self._limits.answer_tokens
        return GenerationRequest(
            prepared.messages,
            max_tokens=most
            if question.answer_tokens is None
            else min(most, question.answer_tokens),
            temperature=question.temperature,
            stop=(PARAGRAPH,),
        )

    def _unknown(self, prepared: Prepared) -> Answer:
        return self._answer(DONT_KNOW, prepared, TokenUsage(0, 0), None, "stop")

    def _answer(
        self,
        text: str,
        prepared: Prepared,
        usage: TokenUsage,
        started: float | None,
        finish_reason: str,
    ) -> Answer:
        cited, citations = cite(text, prepared.kept) if prepared.kept else (text, ())
        timings = dict(prepared.timings_s)
        if started is not None:
            timings["generate"] = time.perf_counter() - started
        return Answer(
            id=f"ans_{uuid.uuid4().hex}",
            chain=self._name,
            text=cited,
            is_known=bool(prepared.kept),
            citations=citations,
            version=prepared.version,
            model=self._generator.info.model,
            usage=usage,
            timings_s=timings,
            features=prepared.features,
            lag=self._lag(),
            finish_reason=finish_reason,
        )


@contextlib.contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - started
