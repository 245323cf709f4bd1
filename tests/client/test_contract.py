"""Both clients against the real gateway: what comes back, and what refusals look like."""

import dataclasses
import inspect
from datetime import UTC, date, datetime

import pytest

from headrace_client import (
    Answer,
    AsyncHeadraceClient,
    Delta,
    Feature,
    HeadraceClient,
    Health,
    IndexDrift,
    IndexProof,
    IndexState,
    IndexSync,
    IndexVersion,
    InvalidRequest,
    Lag,
    NotFound,
    Unavailable,
    Usage,
)

QUESTION = "which module reads csv tabular data"


def test_an_answer_is_typed_down_to_its_last_part(headrace):
    answer = headrace.query(QUESTION)
    assert answer.id.startswith("ans_")
    assert (answer.chain, answer.is_known, answer.model) == ("docs", True, "scripted")
    assert answer.text == "The csv module reads tabular data. [1] See also."
    (citation,) = answer.citations
    assert (citation.marker, citation.document_id, citation.title) == (1, "csv", "CSV")
    assert (citation.start, citation.end, citation.origin) == (0, 33, "model")
    assert 0 < citation.score <= 1
    assert citation.support == 1.0
    version = answer.version
    assert (version.index, version.table_id, version.table_version) == ("docs", "table-1", 7)
    assert version.created_at.tzinfo is not None
    assert answer.lag == Lag(2, 5.0)
    assert isinstance(answer.usage, Usage)
    assert answer.usage.completion_tokens == 10
    assert set(answer.timings_s) == {"embed", "search", "features", "prompt", "generate"}


def test_a_users_features_come_with_the_answer(headrace):
    features = headrace.query(QUESTION, user="ada", k=1).features
    assert features == (
        Feature("user", "ada", "tone", "terse", 0.0, False),
        Feature("user", "ada", "modules", ("csv",), 0.0, False),
        Feature("stats", "csv", "views", 9, 0.0, False),
    )


def test_a_stream_is_deltas_and_then_the_answer_that_a_query_gives(headrace):
    *deltas, answer = headrace.stream(QUESTION)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert "".join(d.text for d in deltas) == "The csv module reads tabular data [1]. See also [9]."
    asked = headrace.query(QUESTION)
    same = {"id": asked.id, "timings_s": asked.timings_s}
    assert dataclasses.replace(answer, **same) == asked


def test_a_question_that_nothing_is_relevant_to_is_an_answer_too(headrace):
    assert not headrace.query("bananas grow upwards").is_known
    *_, answer = headrace.stream("bananas grow upwards")
    assert (answer.is_known, answer.citations) == (False, ())


def test_k_filter_and_chain_reach_the_server(headrace):
    two = headrace.search("the module reads data", index="docs", k=2)
    assert [hit.document_id for hit in two.hits] == ["csv", "json"]
    assert isinstance(two.version, IndexVersion)
    (hit,) = headrace.search("the function", index="docs", filter={"kind": ["function"]}).hits
    assert (hit.title, hit.text) == ("OPEN", "the open function reads a file")
    assert (hit.start, hit.end, hit.metadata) == (0, 30, {"kind": "function"})
    answer = headrace.query(QUESTION, filter={"kind": "function"})
    assert "csv" not in [citation.document_id for citation in answer.citations]
    assert headrace.query(QUESTION, chain="second").chain == "second"


def test_a_search_by_words_or_by_both_carries_the_scores_of_its_legs(headrace):
    options = {"index": "docs", "k": 1}
    (ann,) = headrace.search("json", **options).hits
    assert (ann.vector_score, ann.text_score) == (ann.score, None)
    (words,) = headrace.search("json", query_type="full_text", **options).hits
    assert (words.document_id, words.text_score) == ("json", words.score)
    (both,) = headrace.search("json", query_type="hybrid", **options).hits
    assert (both.document_id, both.text_score) == ("json", words.score)
    assert both.score == pytest.approx(2 / 61)


@pytest.mark.parametrize(
    ("ask", "error", "status", "code", "param"),
    [
        (lambda c: c.query(""), InvalidRequest, 400, "invalid_question", "question"),
        (lambda c: c.query("a\ud800"), InvalidRequest, 400, "invalid_question", "question"),
        (lambda c: c.query("q", k=0), InvalidRequest, 422, "invalid_request", "k"),
        (lambda c: list(c.stream("q", k=0)), InvalidRequest, 422, "invalid_request", "k"),
        (lambda c: c.query("q", chain="no"), NotFound, 404, "chain_not_found", "chain"),
        (lambda c: c.query("q", user=""), InvalidRequest, 400, "invalid_user", "user"),
        (lambda c: c.query(QUESTION, user="eve"), NotFound, 404, "user_not_found", "user"),
        (lambda c: c.query("q", filter={"x": 1}), InvalidRequest, 400, "invalid_query", "filter"),
        (lambda c: c.search("q", index="a/ü"), NotFound, 404, "not_found", None),
        (lambda c: c.search("q", index="nö"), NotFound, 404, "index_not_found", "index"),
        (lambda c: c.index("nö"), NotFound, 404, "index_not_found", "index"),
        (lambda c: c.search("q" * 100_001, index="docs"), InvalidRequest, 413,
         "body_too_large", None),
    ],
)  # fmt: skip
def test_a_refusal_is_typed_by_its_status_and_names_the_field(
    headrace, ask, error, status, code, param
):
    with pytest.raises(error) as caught:
        ask(headrace)
    told = caught.value
    assert type(told) is error
    assert (told.status, told.code, told.param) == (status, code, param)
    assert told.message in str(told)
    assert code in str(told)


def test_a_filter_may_hold_dates_and_what_is_no_json_is_refused_before_sending(headrace):
    assert headrace.search("q", index="docs", filter={"kind": date(2026, 11, 24)}).hits == ()
    with pytest.raises(TypeError, match="set, not JSON"):
        headrace.search("q", index="docs", filter={"kind": {"module"}})


def test_an_index_is_typed_down_to_its_last_part(headrace):
    now = datetime(2026, 11, 24, tzinfo=UTC)
    docs = IndexState(
        name="docs",
        documents=3,
        passages=4,
        version=IndexVersion("docs", "3-t-v7", now, "t", 7),
        lag=Lag(2, 5.0),
        pending_rows=9,
        problem=None,
        sync=IndexSync("failing", 1, 2, "no table", now, 12.5, 0.5),
        proof=IndexProof(now, False, 1, 2, 3),
        drift=IndexDrift("3-t-v7", 4, 0.5, 0.25, None, 0.0),
    )
    new = IndexState("new", 0, 0, None, None, None, "not published", None, None, None)
    assert headrace.indexes() == (docs, new)
    assert (headrace.index("docs"), headrace.index("new")) == (docs, new)


def test_health_says_what_is_missing(headrace, served):
    assert (headrace.health(), headrace.is_ready()) == (Health(True, {}), True)
    served.problems["index docs"] = "not published yet"
    assert headrace.health() == Health(False, {"index docs": "not published yet"})
    assert not headrace.is_ready()


def test_a_model_that_dies_in_mid_stream_is_the_error_it_is_outside_of_one(headrace):
    events = headrace.stream(QUESTION, chain="dies")
    assert [next(events).text, next(events).text] == ["one", " two"]
    with pytest.raises(Unavailable) as caught:
        next(events)
    assert (caught.value.status, caught.value.code) == (503, "model_died")


def test_a_stream_that_is_left_ends_the_models_work(headrace, served):
    events = headrace.stream(QUESTION, chain="drips")
    next(events)
    assert not served.generators["drips"].ended.is_set()
    events.close()
    # Not cancelled, it would write for 200 s more.
    assert served.generators["drips"].ended.wait(30)


def test_connections_are_reused_after_answers_streams_and_refusals(refusing, connect, url):
    with refusing() as gate:
        client = connect(url)
        for _ in range(3):
            client.query(QUESTION)
            assert len([e for e in client.stream(QUESTION) if isinstance(e, Answer)]) == 1
            with pytest.raises(InvalidRequest):
                client.query("")
    assert (gate.seen, len(gate.ports)) == (9, 1)


def test_the_key_is_sent_as_bearer_and_shown_nowhere(refusing, connect, url):
    with refusing() as gate:
        client = connect(url, api_key="hr_secret")
        client.query(QUESTION)
        assert "hr_secret" not in repr(client.client) + repr(vars(client.client))
    assert gate.sent[0][b"authorization"] == b"Bearer hr_secret"
    assert gate.sent[0][b"user-agent"].startswith(b"headrace-client/")


def test_base_urls_with_a_path_and_names_with_a_slash_are_kept(refusing, connect, url):
    with refusing() as gate, pytest.raises(NotFound):
        connect(f"{url}/rag/").search("q", index="a/b")
    assert gate.paths == [b"/rag/indexes/a%2Fb/search"]


def test_both_clients_have_the_same_calls_with_the_same_options():
    calls = ("query", "stream", "search", "indexes", "index", "health", "is_ready")
    for name in ("__init__", *calls):
        sync = inspect.signature(getattr(HeadraceClient, name))
        assert sync.parameters == inspect.signature(getattr(AsyncHeadraceClient, name)).parameters
