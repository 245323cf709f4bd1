"""Operations of /v1 without HTTP: what reaches an engine, and what its chunks become."""

import asyncio
import json

import pytest

from gateway.openai.chat import chat
from gateway.openai.dispatch import answer
from gateway.openai.errors import InvalidRequest
from gateway.openai.models import ServedModels
from gateway.openai.rerank import rerank
from gateway.openai.response_events import ResponseEvents
from gateway.openai.responses import responses
from llm_endpoint.embedding.hashing import HashingEncoder
from llm_endpoint.embedding.server import EmbeddingServer
from llm_endpoint.generation import Fault, ScriptedGenerator
from llm_endpoint.rerank import WordOverlapReranker

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CHAT_TOOL = {"type": "function", "function": {"name": "weather"}}
HEAD = {"id": "resp_1", "model": "m"}


@pytest.fixture
def models():
    engine = ScriptedGenerator(["one two three"], model="m")
    embedder = EmbeddingServer(HashingEncoder, bulk=None)
    yield ServedModels(
        generators={"m": engine}, embedders={"v": embedder}, rerankers={"r": WordOverlapReranker()}
    )
    embedder.close()


def call(index, **function):
    named = {"id": "call_1"} if "name" in function else {}
    return {"index": index, "function": function, **named}


def chunk(reason=None, usage=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": usage}


def test_a_chat_reaches_the_engine_in_words_that_every_engine_knows(models):
    asked = chat(models, {
        "model": "m", "max_completion_tokens": 5, "user": "u", "metadata": {"a": "b"},
        "seed": None, "tools": [CHAT_TOOL],
        "messages": [{"role": "developer", "content": "d"}, {"role": "user", "content": "u"}],
    })  # fmt: skip
    assert asked.body == {
        "model": "m", "max_tokens": 5, "tools": [CHAT_TOOL],
        "messages": [{"role": "system", "content": "d"}, {"role": "user", "content": "u"}],
    }  # fmt: skip


def test_a_response_reaches_the_engine_as_a_chat(models):
    asked = responses(models, {
        "model": "m", "instructions": "i", "max_output_tokens": 7, "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"},
                                         {"type": "input_text", "text": "b"}]},
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "rain"},
        ],
    }).asked.body  # fmt: skip
    function = {"name": "weather", "arguments": "{}"}
    assert asked["messages"] == [
        {"role": "system", "content": "i"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "c", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ]  # fmt: skip
    assert asked["tools"] == [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ]
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert asked["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "n", "schema": {}}
    }  # fmt: skip
    assert asked["max_tokens"] == 7


def test_text_and_calls_of_a_chat_become_the_items_of_a_response():
    events = ResponseEvents(HEAD)
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    made = list(events.begin())
    for one in (
        chunk(content="Let me "),
        chunk(content="see."),
        chunk(tool_calls=[call(0, name="weather", arguments='{"ci')]),
        chunk(tool_calls=[call(0, arguments='ty": "Oslo"}')]),
        chunk("tool_calls", usage),
    ):
        made += events.add(one)
    made += events.end()
    assert [event["sequence_number"] for event in made] == list(range(len(made)))
    text, function = made[-1]["response"]["output"]
    assert (text["content"][0]["text"], text["status"]) == ("Let me see.", "completed")
    assert (function["name"], json.loads(function["arguments"])) == ("weather", {"city": "Oslo"})
    assert (function["call_id"], made[-1]["type"]) == ("call_1", "response.completed")
    assert made[-1]["response"]["usage"]["input_tokens"] == 3
    done = {event["type"]: event for event in made}
    assert done["response.function_call_arguments.done"]["output_index"] == 1
    assert done["response.output_text.done"]["text"] == "Let me see."


def test_a_response_out_of_tokens_is_incomplete():
    events = ResponseEvents(HEAD)
    list(events.add(chunk("length", content="cut")))
    *_, last = events.end()
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_documents_are_reranked_best_first(models):
    body = {"model": "r", "query": "read csv", "documents": ["a dog", {"text": "read a csv"}]}
    made = json.loads(asyncio.run(rerank(models, body | {"return_documents": True})))
    assert [one["index"] for one in made["results"]] == [1, 0]
    assert made["results"][0]["document"] == {"text": "read a csv"}
    made = json.loads(asyncio.run(rerank(models, body | {"top_n": 1})))
    assert len(made["results"]) == 1
    with pytest.raises(InvalidRequest, match=r"documents\.1: must be a text"):
        asyncio.run(rerank(models, body | {"documents": ["a", {"title": "b"}]}))


def test_a_request_is_answered_without_http_with_the_status_it_would_have_had(models):
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    status, made = asyncio.run(answer(models, "/v1/chat/completions", asked))
    assert status == 200
    assert json.loads(made)["choices"][0]["message"]["content"] == "one two three"
    texts = {"model": "v", "input": ["a", "b"]}
    status, made = asyncio.run(answer(models, "/v1/embeddings", texts))
    assert (status, len(json.loads(made)["data"])) == (200, 2)
    status, made = asyncio.run(answer(models, "/v1/chat/completions", {**asked, "n": "two"}))
    assert (status, json.loads(made)["error"]["param"]) == (400, "n")
    broken = ServedModels(generators={"m": ScriptedGenerator([Fault("die")], model="m")})
    status, made = asyncio.run(answer(broken, "/v1/chat/completions", asked))
    assert (status, json.loads(made)["error"]["code"]) == (503, "model_died")
