"""The events of a stream as one answer."""

from llm_endpoint.generation.joining import join_events


def chunk(delta: dict[str, object], reason: str | None = None, index: int = 0) -> dict[str, object]:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}


def test_texts_of_each_choice_are_joined_in_their_order():
    answer = join_events(
        [
            chunk({"role": "assistant", "content": None}, index=1),
            chunk({"content": "one"}, index=1),
            chunk({"content": "zero"}),
            chunk({"content": "!"}, "stop", index=1),
            chunk({}, "length"),
            {"id": "x", "choices": [], "usage": {"total_tokens": 9}},
        ]
    )
    assert answer == {
        "id": "x",
        "object": "chat.completion",
        "usage": {"total_tokens": 9},
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "zero"},
             "finish_reason": "length"},
            {"index": 1, "message": {"role": "assistant", "content": "one!"},
             "finish_reason": "stop"},
        ],
    }  # fmt: skip


def test_the_arguments_of_two_tool_calls_are_joined_each():
    def call(index: int, **function: str) -> dict[str, object]:
        return {"tool_calls": [{"index": index, "function": function}]}

    first = {"tool_calls": [{"index": 0, "id": "a", "type": "function",
                             "function": {"name": "f", "arguments": ""}}]}  # fmt: skip
    second = {"tool_calls": [{"index": 1, "id": "b", "type": "function",
                              "function": {"name": "g", "arguments": "{}"}}]}  # fmt: skip
    answer = join_events(
        [
            chunk(first),
            chunk(call(0, arguments='{"x":')),
            chunk(second),
            chunk(call(0, arguments="1}")),
            chunk({}, "tool_calls"),
        ]
    )
    (choice,) = answer["choices"]  # type: ignore[misc]
    assert [c["function"]["arguments"] for c in choice["message"]["tool_calls"]] == [
        '{"x":1}',
        "{}",
    ]
    assert [c["id"] for c in choice["message"]["tool_calls"]] == ["a", "b"]
    assert choice["message"]["content"] is None


def test_log_probabilities_of_all_tokens_are_kept():
    def token(text: str) -> dict[str, object]:
        form = chunk({"content": text})
        form["choices"][0]["logprobs"] = {"content": [{"token": text}]}  # type: ignore[index]
        return form

    answer = join_events([token("a"), token("b"), chunk({}, "stop")])
    (choice,) = answer["choices"]  # type: ignore[misc]
    assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


def test_no_events_make_no_answer():
    assert join_events([]) == {}
