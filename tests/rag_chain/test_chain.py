"""The chain over an exact index, the hashing embedder and a scripted model."""

import asyncio
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from feature_store.memory import InMemoryFeatures, View
from llm_endpoint.embedding import HashingEmbedder
from llm_endpoint.generation import ScriptedGenerator
from rag_chain.chain import DONT_KNOW, Chain, ChainLimits
from rag_chain.enrichment import FeatureSource, FeatureUse
from rag_chain.errors import InvalidQuestion, InvalidUser, UnknownUser
from rag_chain.question import MAX_QUESTION_CHARACTERS, Question
from rag_chain.retrieval import Retriever
from vector_index.manifest import IndexSettings
from vector_index.memory import InMemoryIndex
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    IndexDelta,
    Lag,
    Passage,
    SourceVersion,
    passages_to_table,
)

TEXTS = {"csv": "the csv module reads tabular data", "board": "the csv merger is secret"}
STAFF = Access("acme", frozenset({"staff"}))

NOW = datetime(2026, 11, 24, tzinfo=UTC)
USERS = {"ben": ("beginner", "friendly"), "ada": ("expert", "terse")}


@pytest.fixture
def features():
    rows = {
        user: (NOW - timedelta(hours=1), {"experience_level": level, "tone": tone})
        for user, (level, tone) in USERS.items()
    }
    stats = {"csv": (NOW, {"views": 9})}
    views = {"user": View(("experience_level", "tone"), rows), "stats": View(("views",), stats)}
    use = FeatureUse("user", "stats", {"views": 0.01}, ("experience_level", "tone"), None)
    return FeatureSource(InMemoryFeatures(views, now=lambda: NOW), use)


@pytest.fixture
def ask():
    embedder = HashingEmbedder(256)
    info = embedder.info
    identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
    index = InMemoryIndex(IndexSettings("docs", "exact", identity, {}, {}, True, True))
    passages = [
        Passage(key, 0, key, text, 0, len(text), key, "acme",
                ("staff",) if key == "csv" else ("directors",))
        for key, text in TEXTS.items()
    ]  # fmt: skip
    documents = pa.Table.from_pylist(
        [{"document_id": key, "document_hash": key} for key in TEXTS], schema=DOCUMENT_SCHEMA
    )
    index.publish(
        IndexDelta(
            documents,
            passages_to_table(passages, {}),
            embedder.embed_passages(list(TEXTS.values())),
            frozenset(),
        ),
        SourceVersion("t", 7, "fp", datetime(2026, 1, 1, tzinfo=UTC)),
    )

    def run(question, *, access=STAFF, is_streamed=False, user=None, features=None, **limits):
        seen = []

        def reply(request):
            seen.append(request)
            return "The csv module reads tabular data [1]. See also [9]."

        generator = ScriptedGenerator(reply, model="scripted", context_tokens=4096)
        chain = Chain(
            Retriever(index, embedder), generator,
            name="docs", limits=ChainLimits(**limits), features=features, lag=lambda: Lag(2, 5.0),
        )  # fmt: skip
        asked = Question(question, access, user=user)

        async def collect():
            return [piece async for piece in chain.stream(asked)]

        return asyncio.run(collect() if is_streamed else chain.answer(asked)), seen

    return run


def test_an_answer_says_what_it_was_built_from(ask):
    answer, _ = ask("which module reads csv data")
    assert answer.is_known
    assert [c.document_id for c in answer.citations] == ["csv"]
    assert "[9]" not in answer.text
    assert (answer.version.source.version, answer.lag) == (7, Lag(2, 5.0))
    assert (answer.model, answer.chain) == ("scripted", "docs")
    assert set(answer.timings_s) == {"embed", "search", "prompt", "generate"}


def test_a_stream_ends_with_the_answer_whose_citations_are_checked(ask):
    (*pieces, answer), _ = ask("which module reads csv data", is_streamed=True)
    assert "".join(pieces) == "The csv module reads tabular data [1]. See also [9]."
    assert "[9]" not in answer.text
    assert [c.document_id for c in answer.citations] == ["csv"]
    assert answer.usage.completion_tokens == len(pieces)


def test_a_stream_without_a_relevant_passage_does_not_know(ask):
    (piece, answer), seen = ask("bananas grow upwards", is_streamed=True)
    assert (piece, answer.text, answer.is_known, seen) == (DONT_KNOW, DONT_KNOW, False, [])


def test_without_a_relevant_passage_it_does_not_know_and_asks_no_model(ask):
    answer, seen = ask("bananas grow upwards")
    assert (answer.text, answer.is_known, answer.citations) == (DONT_KNOW, False, ())
    assert seen == []


def test_a_passage_the_asker_may_not_see_is_not_in_the_prompt(ask):
    _, seen = ask("what about the csv merger", min_score=-1.0)
    prompt = "".join(message.content for message in seen[0].messages)
    assert TEXTS["csv"] in prompt
    assert TEXTS["board"] not in prompt
    assert ask("csv", access=Access("other", frozenset({"staff"})))[0].text == DONT_KNOW


def test_a_budget_too_small_for_any_passage_is_an_honest_dont_know(ask):
    answer, seen = ask("which module reads csv data", prompt_tokens=3)
    assert (answer.is_known, seen) == (False, [])


def test_the_users_level_and_tone_change_the_wording_asked_for(ask, features):
    systems = {}
    for user in (None, *USERS):
        _, seen = ask("which module reads csv data", user=user, features=features)
        systems[user] = seen[0].messages[0].content
    assert "beginner" not in systems[None]
    assert systems["ben"].endswith("explain them.\nBe friendly.")
    assert systems["ada"].endswith("leave out the basics.\nBe brief.")


def test_an_answer_names_the_features_behind_it_with_their_age(ask, features):
    answer, _ = ask("which module reads csv data", user="ada", features=features)
    assert [(f.view, f.key, f.name, f.value, f.age_s) for f in answer.features] == [
        ("user", "ada", "experience_level", "expert", 3600.0),
        ("user", "ada", "tone", "terse", 3600.0),
        ("stats", "csv", "views", 9, 0.0),
    ]
    assert set(answer.timings_s) == {"embed", "search", "features", "prompt", "generate"}


def test_a_user_nobody_knows_is_refused_and_no_model_is_asked(ask, features):
    with pytest.raises(UnknownUser, match="'eve'"):
        ask("which module reads csv data", user="eve", features=features)


@pytest.mark.parametrize(
    ("user", "message"),
    [("", "0 characters"), ("x" * 257, "257 characters"), ("a\ud800", r"of the user is U\+D800")],
)
def test_a_user_that_is_no_text_is_refused_by_name(ask, features, user, message):
    with pytest.raises(InvalidUser, match=message):
        ask("which module reads csv data", user=user, features=features)


def test_a_user_without_a_feature_store_is_refused(ask):
    with pytest.raises(InvalidUser, match="'ada' was given, but there is no feature store"):
        ask("which module reads csv data", user="ada")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("x" * (MAX_QUESTION_CHARACTERS + 1), "4001 characters"),
        ("a\0b", r"character 1 .* U\+0000"),
        ("ab\ud800", r"character 2 .* U\+D800"),
    ],
)
def test_a_question_that_is_no_text_is_refused_by_name(ask, question, message):
    with pytest.raises(InvalidQuestion, match=message):
        ask(question)
