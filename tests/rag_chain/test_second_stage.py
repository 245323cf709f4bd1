"""The second stage against hand-computed word shares, alone, with features, and in the chain."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from feature_store.memory import InMemoryFeatures, View
from llm_endpoint.embedding import HashingEmbedder
from llm_endpoint.errors import EngineUnavailable
from llm_endpoint.generation import ScriptedGenerator
from llm_endpoint.rerank import RerankerInfo, WordOverlapReranker
from rag_chain.chain import Chain, ChainLimits
from rag_chain.enrichment import FeatureSource, FeatureUse, enrich
from rag_chain.question import Question
from rag_chain.retrieval import Retriever
from rag_chain.second_stage import SecondStage, base_scores, by_score
from vector_index.manifest import IndexSettings
from vector_index.memory import InMemoryIndex
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    Hit,
    IndexDelta,
    Passage,
    SourceVersion,
    passages_to_table,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
QUESTION = "read a csv file"
# By cosine the repetitive one is nearest; of the question's four words it has one.
TEXTS = {
    "echo": "csv csv csv csv read",
    "guide": "how to read a csv file or a tsv file into rows and write it out again",
    "half": "a csv",
}


class Recorder:
    """Word overlap that remembers what it was asked."""

    def __init__(self):
        self.asked = []

    @property
    def info(self):
        return RerankerInfo("recorder", "overlap", None)

    async def rerank(self, question, texts):
        self.asked.append((question, list(texts)))
        return await WordOverlapReranker().rerank(question, texts)

    async def close(self):
        pass


class Broken(Recorder):
    async def rerank(self, question, texts):
        raise EngineUnavailable("the reranker is not reachable; is the server running?")


def hits(*keys, texts=TEXTS):
    """Nearest first: cosines 0.9, 0.8, 0.7, …"""
    return [
        Hit(Passage(key, 0, key, texts[key], 0, 1, key), 0.9 - number / 10)
        for number, key in enumerate(keys)
    ]


def names(found):
    return [hit.passage.document_id for hit in found]


def features(views):
    rows = {key: (NOW, {"views": value}) for key, value in views.items()}
    reader = InMemoryFeatures({"stats": View(("views",), rows)}, now=lambda: NOW)
    return FeatureSource(reader, FeatureUse("user", "stats", {"views": 0.1}, (), None))


def scored(found, stage):
    return asyncio.run(base_scores(QUESTION, found, stage))


def test_the_rerankers_score_replaces_the_cosine_in_ranking_and_not_in_the_hit():
    found = hits("half", "echo", "guide")
    scores = scored(found, SecondStage(WordOverlapReranker()))
    assert scores == (0.5, 0.5, 1.0)
    ranked = by_score(found, scores)
    # Equal ones keep the order of the search.
    assert names(ranked) == ["guide", "half", "echo"]
    assert [hit.score for hit in ranked] == pytest.approx([0.7, 0.9, 0.8])


def test_only_the_candidates_are_read_and_the_others_stay_behind():
    reranker = Recorder()
    found = hits("half", "echo", "guide")
    scores = scored(found, SecondStage(reranker, candidates=2))
    assert reranker.asked == [(QUESTION, [TEXTS["half"], TEXTS["echo"]])]
    assert scores == (0.5, 0.5, -np.inf)
    assert names(by_score(found, scores)) == ["half", "echo", "guide"]


def test_without_hits_no_reranker_is_asked():
    reranker = Recorder()
    assert (scored([], SecondStage(reranker)), reranker.asked) == ((), [])


def test_features_add_to_the_rerankers_score():
    found = hits("half", "guide")
    scores = (0.5, 0.75)
    # 0.5 + 0.1 * log10(1 + 9999) = 0.9 > 0.75, and 0.5 + 0.1 * log10(1 + 99) = 0.7 < 0.75
    assert names(enrich(found, None, features({"half": 9999}), scores=scores).hits)[0] == "half"
    assert names(enrich(found, None, features({"half": 99}), scores=scores).hits)[0] == "guide"


def test_features_lift_nothing_over_a_passage_that_was_scored():
    found = hits("half", "echo")
    enriched = enrich(found, None, features({"echo": 10**9}), scores=(0.0, -np.inf))
    assert names(enriched.hits) == ["half", "echo"]


@pytest.mark.parametrize("candidates", [0, -1, 1001])
def test_a_number_of_candidates_that_no_search_returns_is_refused(candidates):
    with pytest.raises(ValueError, match=rf"candidates is {candidates}; .* 1 and 1000"):
        SecondStage(WordOverlapReranker(), candidates)


@pytest.fixture(scope="module")
def index():
    embedder = HashingEmbedder(4096)
    info = embedder.info
    identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
    built = InMemoryIndex(IndexSettings("docs", "exact", identity, {}, {}, False, False))
    passages = [Passage(key, 0, key, text, 0, len(text), key) for key, text in TEXTS.items()]
    documents = pa.Table.from_pylist(
        [{"document_id": key, "document_hash": key} for key in TEXTS], schema=DOCUMENT_SCHEMA
    )
    vectors = embedder.embed_passages(list(TEXTS.values()))
    built.publish(
        IndexDelta(documents, passages_to_table(passages, {}), vectors, frozenset()),
        SourceVersion("t", 1, "fp", NOW),
    )
    return built


def prepare(index, question=QUESTION, *, k=1, min_score=-1.0, **parts):
    chain = Chain(
        Retriever(index, HashingEmbedder(4096)),
        ScriptedGenerator(["fine"], context_tokens=4096),
        name="docs",
        limits=ChainLimits(min_score=min_score),
        **parts,
    )
    return asyncio.run(chain.prepare(Question(question, Access("", frozenset()), k)))


# Cosines with the question: half 2/sqrt(2 * 4) = 0.71, guide 6/sqrt(4 * 21) = 0.65 (it has "a" and
# "file" twice), echo 5/sqrt(4 * 17) = 0.61.
def test_the_chain_finds_with_the_second_stage_what_the_search_put_behind(index):
    assert names(prepare(index).kept) == ["half"]
    reranked = prepare(index, second_stage=SecondStage(WordOverlapReranker()))
    assert names(reranked.kept) == ["guide"]
    assert reranked.kept[0].score == pytest.approx(6 / np.sqrt(4 * 21), abs=1e-3)
    assert set(reranked.timings_s) == {"embed", "search", "rerank", "prompt"}


def test_the_chain_adds_features_to_the_rerankers_score(index):
    # guide 1.0; echo 0.5 + 0.1 * log10(1 + 10^6 - 1) = 1.1
    found = prepare(
        index,
        second_stage=SecondStage(WordOverlapReranker()),
        features=features({"echo": 10**6 - 1}),
    )
    assert names(found.kept) == ["echo"]
    assert set(found.timings_s) == {"embed", "search", "rerank", "features", "prompt"}


def test_relevance_is_judged_by_cosine_before_the_reranker_is_asked(index):
    reranker = Recorder()
    prepare(index, min_score=0.65, second_stage=SecondStage(reranker))
    assert reranker.asked == [(QUESTION, [TEXTS["half"], TEXTS["guide"]])]
    assert prepare(index, "bananas", min_score=0.35, second_stage=SecondStage(reranker)).kept == ()
    assert len(reranker.asked) == 1


def test_more_passages_than_candidates_can_be_asked_for(index):
    stage = SecondStage(WordOverlapReranker(), candidates=2)
    assert names(prepare(index, k=3, second_stage=stage).kept) == ["guide", "half", "echo"]


def test_a_reranker_that_is_away_is_an_error_and_no_silent_change_of_order(index):
    with pytest.raises(EngineUnavailable, match="reranker is not reachable"):
        prepare(index, second_stage=SecondStage(Broken()))
