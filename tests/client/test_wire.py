"""Encoding and decoding without a server."""

import copy
import json

import pytest

from gateway.errors import explain
from headrace_client import InvalidField, InvalidRequest, ServerFailed
from headrace_client.wire import (
    EventReader,
    decode_answer,
    decode_indexes,
    decode_search,
    query_call,
)
from llm_endpoint import errors
from rag_chain.errors import RagChainError

PARTS = [
    (), ("citations", 0), ("version",), ("usage",), ("features", 0), ("lag",),
]  # fmt: skip


@pytest.fixture
def form(answer_form):
    feature = {
        "view": "v", "key": "k", "name": "n", "value": None, "age_s": None, "is_stale": False
    }  # fmt: skip
    return {**answer_form, "features": [feature], "lag": {"versions": None, "seconds": 1.5}}


@pytest.mark.parametrize("part", PARTS)
def test_every_field_is_required_and_a_missing_one_is_named_by_its_path(form, part):
    names = list(_at(form, part))
    assert decode_answer(json.dumps(form).encode()).lag.seconds == 1.5
    for name in names:
        broken = copy.deepcopy(form)
        del _at(broken, part)[name]
        with pytest.raises(InvalidField, match="is missing") as caught:
            decode_answer(json.dumps(broken).encode())
        assert caught.value.field == _path(part, name)


@pytest.mark.parametrize(
    ("part", "name", "value", "problem"),
    [
        ((), "answer", None, "is not text but None"),
        ((), "is_known", 1, "is not true or false but 1"),
        ((), "citations", {}, r"is not a list but \{\}"),
        (("citations", 0), "marker", True, "is not an integer but True"),
        (("citations", 0), "start", 1.5, "is not an integer but 1.5"),
        (("citations", 0), "score", "1", "is not a number but '1'"),
        (("version",), "created_at", "today", "is not a time but 'today'"),
        (("features", 0), "value", {"a": 1}, "is not a plain value"),
        ((), "usage", ["x" * 200], "is not an object but .*…"),
    ],
)
def test_a_field_of_another_type_is_named_with_its_value(form, part, name, value, problem):
    _at(form, part)[name] = value
    with pytest.raises(InvalidField, match=problem) as caught:
        decode_answer(json.dumps(form).encode())
    assert caught.value.field == _path(part, name)


def test_a_field_of_a_hit_is_named_by_its_path():
    with pytest.raises(InvalidField) as caught:
        decode_search(b'{"hits": [{"document_id": "a"}], "version": {}}')
    assert caught.value.field == "hits[0].title"


def test_a_field_of_an_index_is_named_by_its_path_and_a_list_is_expected():
    with pytest.raises(InvalidField) as caught:
        decode_indexes(b'[{"name": "a", "documents": "many"}]')
    assert caught.value.field == "indexes[0].documents"
    with pytest.raises(InvalidField, match="is not a list"):
        decode_indexes(b'{"name": "a"}')


def test_what_is_not_given_is_not_sent():
    call = query_call("q", chain=None, k=None, filter=None, user=None, is_streamed=False)
    assert json.loads(call.body) == {"question": "q"}
    call = query_call("q", chain="c", k=2, filter={}, user="u", is_streamed=True)
    given = {"question": "q", "chain": "c", "k": 2, "filter": {}, "user": "u", "stream": True}
    assert json.loads(call.body) == given


@pytest.mark.parametrize(
    "error",
    [
        errors.EngineDied("x"),
        errors.EngineTimeout("m", 1.0),
        errors.EngineUnavailable("x"),
        errors.EngineAnswerInvalid("m", "x"),
        errors.EngineRefused("m", 400, "x"),
        errors.ContextOverflow("m", 2, 1),
        RagChainError("x"),
        RuntimeError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_status_of_an_error_inside_a_stream_is_the_one_that_the_gateway_gives_it(error):
    status, body = explain(error)
    with pytest.raises((InvalidRequest, ServerFailed)) as caught:
        EventReader().read(json.dumps({"type": "error", **body}))
    assert (caught.value.status, caught.value.code) == (status, body["error"]["code"])


def _at(form, part):
    for step in part:
        form = form[step]
    return form


def _path(part, name):
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*part, name))
    return steps[1:]
