"""A chain that finds by vectors and words: three passages with vectors made by hand."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from feature_store.memory import InMemoryFeatures, View
from llm_endpoint.embedding import HashingEmbedder
from llm_endpoint.generation import ScriptedGenerator
from rag_chain.chain import Chain, ChainLimits
from rag_chain.enrichment import FeatureSource, FeatureUse
from rag_chain.question import Question
from rag_chain.retrieval import Retriever
from vector_index.manifest import IndexSettings
from vector_index.memory import InMemoryIndex
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    IndexDelta,
    Passage,
    SourceVersion,
    passages_to_table,
)
from vector_index.query import LegWeights

QUESTION = "zebra"
# Cosines with the question are 0.8, 0.6 and 0.2; only `named` and `far` hold its word.
PASSAGES = {
    "near": ("stripes on a horse", (0.8, 0.6)),
    "named": ("the zebra is a horse", (0.6, 0.8)),
    "far": ("zebra zebra zebra", (0.2, np.sqrt(0.96))),
}


class ByHand(HashingEmbedder):
    """Every question is the first axis."""

    def __init__(self):
        super().__init__(2)

    def embed_queries(self, texts):
        return np.array([[1.0, 0.0]] * len(texts), np.float32)


@pytest.fixture
def prepare():
    embedder = ByHand()
    info = embedder.info
    identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
    index = InMemoryIndex(IndexSettings("docs", "exact", identity, {}, {}, False, False))
    passages = [Passage(k, 0, k, text, 0, len(text), k) for k, (text, _) in PASSAGES.items()]
    documents = pa.table([list(PASSAGES), list(PASSAGES)], schema=DOCUMENT_SCHEMA)
    vectors = np.array([vector for _, vector in PASSAGES.values()], np.float32)
    index.publish(
        IndexDelta(documents, passages_to_table(passages, {}), vectors, frozenset()),
        SourceVersion("t", 0, "fp", datetime(2026, 1, 1, tzinfo=UTC)),
    )

    def run(features=None, **limits):
        chain = Chain(
            Retriever(index, embedder), ScriptedGenerator(["fine [1]"]),
            name="docs", limits=ChainLimits(**limits), features=features,
        )  # fmt: skip
        return asyncio.run(chain.prepare(Question(QUESTION, Access("", frozenset())))).kept

    return run


def names(hits):
    return [hit.passage.document_id for hit in hits]


def test_each_kind_of_retrieval_has_its_own_order(prepare):
    assert names(prepare(min_score=-1.0)) == ["near", "named", "far"]
    assert names(prepare(min_score=-1.0, mode="full_text")) == ["far", "named"]
    # far is 3rd and 1st: 1/63 + 1/61; named 2nd twice: 2/62; near 1st and absent: 1/61.
    assert names(prepare(min_score=-1.0, mode="hybrid")) == ["far", "named", "near"]


def test_what_only_words_find_must_still_be_near_enough(prepare):
    assert names(prepare(min_score=0.35, mode="hybrid")) == ["named", "near"]
    assert names(prepare(min_score=0.35, mode="full_text")) == ["named"]


def test_the_weights_of_the_legs_decide(prepare):
    only_vectors = LegWeights(ann=1.0, full_text=0.0)
    assert names(prepare(mode="hybrid", weights=only_vectors)) == ["near", "named"]


def test_features_weigh_beside_a_fused_score_as_beside_a_cosine(prepare):
    # Shares of the best fused score 2/61: named (2/62)/(2/61) = 0.984, near (1/61)/(2/61) = 0.5.
    # near + 0.25 * log10(1 + 99) = 1.0 overtakes it; + 0.2 * 2 = 0.9 does not.
    now = datetime(2026, 11, 24, tzinfo=UTC)
    rows = {"near": (now - timedelta(hours=1), {"views": 99})}
    reader = InMemoryFeatures({"stats": View(("views",), rows)}, now=lambda: now)

    def ranked(weight):
        use = FeatureUse("none", "stats", {"views": weight}, (), None)
        return names(prepare(FeatureSource(reader, use), mode="hybrid"))

    assert ranked(0.25) == ["near", "named"]
    assert ranked(0.2) == ["named", "near"]
