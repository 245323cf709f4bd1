"""OpenAI's own Python client, unmodified, against `headrace serve` with the real small models."""

import json

import numpy as np
import openai
import pytest

MODEL, EMBEDDER, RAG = "smollm2", "minilm", "rag/docs"
TOOL = {"type": "function", "function": {"name": "weather"}}
HELLO = [{"role": "user", "content": "Say hello."}]
QUESTION = [{"role": "user", "content": "Which module reads CSV tabular data?"}]


@pytest.fixture(scope="module")
def world(serve):
    return serve()


@pytest.fixture(scope="module")
def client(world):
    url = f"http://127.0.0.1:{world.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", timeout=60, max_retries=0) as client:
        yield client


def test_models_are_listed_with_what_they_are_for(client):
    listed = {model.id: model.model_extra["task"] for model in client.models.list()}
    assert listed == {MODEL: "generation", RAG: "generation", EMBEDDER: "embedding"}
    assert client.models.retrieve(RAG).owned_by == "headrace"
    assert client.models.retrieve(EMBEDDER).model_extra["dimensions"] == 384
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("gpt-9")
    assert unknown.value.code == "model_not_found"


def test_a_chat_is_answered_whole(client):
    made = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, temperature=0)
    (choice,) = made.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert 0 < made.usage.completion_tokens <= 8
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_streamed_chat_has_its_usage_only_if_asked_for(client, wants_usage):
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 8}
    chunks = list(client.chat.completions.create(stream=True, **asked, **options))
    pieces = [c.choices[0].delta.content for c in chunks if c.choices]
    assert len([piece for piece in pieces if piece]) > 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == wants_usage
    if wants_usage:
        assert chunks[-1].choices == []
        assert usages[0].completion_tokens > 0


def test_a_schema_is_kept_by_the_answer(client):
    schema = {
        "type": "object", "additionalProperties": False, "required": ["colour"],
        "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
    }  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema}}
    made = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Colour of the sky, as JSON?"}],
        response_format=wanted, max_tokens=32,
    )  # fmt: skip
    assert json.loads(made.choices[0].message.content)["colour"] in ("red", "blue")


def test_a_text_goes_on_whole_and_streamed(client):
    asked = {"model": MODEL, "prompt": "One, two, three,", "max_tokens": 6}
    assert client.completions.create(**asked).choices[0].text
    pieces = [c.choices[0].text for c in client.completions.create(stream=True, **asked)]
    assert "".join(pieces)
    assert client.completions.create(**asked | {"prompt": ["Only one"]}).choices[0].text


def test_vectors_are_the_same_however_they_are_asked_for(client):
    # The client itself asks for base64 where nothing is said.
    texts = ["reads CSV files", "threads"]
    asked = {"model": EMBEDDER, "input": texts}
    plain = client.embeddings.create(encoding_format="float", **asked)
    encoded = client.embeddings.create(**asked)
    vectors = np.array([one.embedding for one in plain.data], np.float32)
    np.testing.assert_array_equal(vectors, [one.embedding for one in encoded.data])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert plain.usage.total_tokens == encoded.usage.prompt_tokens > 4
    ids = [[9631, 20116, 2615, 6764], [16457]]  # "reads cs ##v files", "threads"
    by_ids = client.embeddings.create(**asked | {"input": ids})
    same = np.sum(vectors * np.array([one.embedding for one in by_ids.data]), axis=1)
    assert same.min() > 0.9999
    (alone,) = client.embeddings.create(**asked | {"input": ids[1]}, dimensions=384).data
    assert np.dot(alone.embedding, vectors[1]) > 0.9999


def test_a_text_longer_than_the_model_reads_is_cut_only_where_that_is_asked_for(client):
    texts = ["word " * 400, "word " * 254]
    made = client.embeddings.create(model=EMBEDDER, input=texts, extra_body={"truncate": "END"})
    cut, whole = (np.array(one.embedding) for one in made.data)
    assert cut @ whole > 0.9999
    assert made.usage.total_tokens == 512


def test_a_response_is_answered_whole_and_in_events(client):
    asked = {"model": MODEL, "input": "Say hello.", "instructions": "Be brief.",
             "max_output_tokens": 8}  # fmt: skip
    made = client.responses.create(**asked)
    assert made.output_text
    assert made.status in ("completed", "incomplete")
    assert 0 < made.usage.output_tokens <= 8
    events = list(client.responses.create(stream=True, **asked))
    assert [event.type for event in events[:4]] == [
        "response.created", "response.in_progress", "response.output_item.added",
        "response.content_part.added",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 1
    assert events[-1].response.output_text == "".join(deltas)
    with client.responses.stream(**asked) as stream:
        # The same question need not end at the same word.
        assert [event.type for event in stream][-1] in ("response.completed", "response.incomplete")


def test_a_chain_is_a_model_that_names_its_sources(client):
    made = client.chat.completions.create(model=RAG, messages=QUESTION)
    answer = made.model_extra["headrace"]
    assert made.choices[0].message.content
    assert "csv" in [citation["document_id"] for citation in answer["citations"]]
    assert answer["version"]["table_version"] == 0
    *_, last = client.chat.completions.create(model=RAG, messages=QUESTION, stream=True)
    assert last.model_extra["headrace"]["chain"] == "docs"
    assert last.choices[0].finish_reason == "stop"
    nothing = client.chat.completions.create(
        model=RAG, messages=QUESTION, extra_body={"headrace": {"filter": {"module": "none"}}}
    )
    assert nothing.model_extra["headrace"]["is_known"] is False


@pytest.mark.parametrize(
    ("path", "change", "field", "words"),
    [
        ("chat", {"max_tokens": 9000}, "max_tokens", "9000 tokens are more than the context"),
        ("chat", {"n": 2}, "n", "is 2; smollm2 (llama.cpp) writes one answer at a time"),
        ("chat", {"functions": [{"name": "f"}]}, "functions", "describe them in `tools`"),
        ("chat", {"modalities": ["audio"]}, "modalities", "only text is written"),
        ("chat", {"temperature": 3}, "temperature", "less than or equal to 2, got 3"),
        ("chat", {"temperature": "hot"}, "temperature", "got 'hot'"),
        ("chat", {"messages": []}, "messages", "at least 1 item"),
        ("chat", {"messages": [{"role": "boss", "content": "?"}]}, "messages.0.role", "'boss'"),
        ("chat", {"messages": [{"role": "user"}]}, "messages.0.content", "got None"),
        ("chat", {"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
        ("chat", {"tools": [TOOL]}, "tools", "not known to smollm2"),
        ("chat", {"model": RAG, "tools": [TOOL]}, "tools", "a chain calls none"),
        ("chat", {"model": RAG, "headrace": {"j": 1}}, "j", "Extra inputs are not permitted"),
        ("completions", {"echo": True}, "echo", "put the prompt in front"),
        ("completions", {"prompt": ["a", "b"]}, "prompt", "has 2 prompts"),
        ("embeddings", {"dimensions": 64}, "dimensions", "is 64; minilm makes vectors of 384"),
        ("embeddings", {"input": []}, "input", "is empty"),
        ("embeddings", {"input": ["a", ""]}, "input.1", "is empty"),
        ("embeddings", {"input": [[99_999_999]]}, "input", "token id 99999999"),
        ("embeddings", {"input": ["a", "word " * 400]}, "input.1",
         "has at least 402 tokens and minilm reads 256"),
        ("embeddings", {"input": [[2773] * 255]}, "input.0", "has at least 257 tokens"),
        ("embeddings", {"encoding_format": "hex"}, "encoding_format", "got 'hex'"),
        ("responses", {"previous_response_id": "r"}, "previous_response_id", "nothing is stored"),
        ("responses", {"background": True}, "background", "is not supported"),
        ("responses", {"tools": [{"type": "web_search"}]}, "tools.0.type", "functions are what"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(client, path, change, field, words):
    bodies = {
        "chat": ("/chat/completions", {"model": MODEL, "messages": HELLO}),
        "completions": ("/completions", {"model": MODEL, "prompt": "a"}),
        "embeddings": ("/embeddings", {"model": EMBEDDER, "input": "a"}),
        "responses": ("/responses", {"model": MODEL, "input": "a"}),
    }
    url, body = bodies[path]
    with pytest.raises(openai.BadRequestError) as refused:
        client.post(url, body=body | change, cast_to=object)
    assert refused.value.param == field
    assert words in refused.value.message
    assert refused.value.type == "invalid_request_error"


def test_a_prompt_longer_than_the_context_says_both_counts(client):
    long = [{"role": "user", "content": "word " * 3000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"has 30\d\d tokens .* holds 2048") as one:
            client.chat.completions.create(model=MODEL, messages=long, stream=stream)
        assert one.value.code == "context_length_exceeded"


def test_a_model_of_another_task_or_none_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="this server has: rag/docs, smollm2") as unknown:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="'minilm' is a model of task embedding"):
        client.chat.completions.create(model=EMBEDDER, messages=HELLO)
    with pytest.raises(openai.NotFoundError, match="there is no rerank model"):
        client.post("/rerank", body={"model": MODEL, "query": "a", "documents": ["b"]}, cast_to=str)


def test_a_body_that_is_no_json_object_is_refused(world):
    for body, code in ((b"{", "invalid_json"), (b"[]", "invalid_value")):
        refused = world.http.post("/v1/chat/completions", content=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)


def test_a_model_killed_in_mid_stream_is_an_error_to_the_client_and_comes_back(world, client):
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Tell a very long story."}]}
    with client.chat.completions.create(stream=True, max_tokens=1500, **asked) as stream:
        next(iter(stream))
        world.model().kill()
        with pytest.raises(openai.APIError, match="died in the middle"):
            list(stream)
    assert client.chat.completions.create(max_tokens=4, **asked).choices[0].message.content
