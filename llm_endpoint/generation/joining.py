"""The events of a stream, put together into the answer that a plain request would have got.

llm_endpoint asks llama.cpp for streams only: it notices a client that left when it writes. Shapes
are those of OpenAI's API reference (chat.completion.chunk, text_completion).
"""

from collections.abc import Iterable

_OBJECTS = {"chat.completion.chunk": "chat.completion"}


def join_events(events: Iterable[dict[str, object]]) -> dict[str, object]:
    """One answer of all choices, with the last usage seen; {} for no events."""
    answer: dict[str, object] = {}
    choices: dict[int, dict[str, object]] = {}
    for event in events:
        listed = event.get("choices")
        for choice in listed if isinstance(listed, list) else []:
            _add_choice(choices.setdefault(choice.get("index", 0), {}), choice)
        answer |= {key: value for key, value in event.items() if key != "choices" and value}
    if answer:
        kind = answer.get("object")
        answer["object"] = _OBJECTS.get(str(kind), kind)
        answer["choices"] = [choices[index] for index in sorted(choices)]
    return answer


def _add_choice(joined: dict[str, object], choice: dict[str, object]) -> None:
    for key, value in choice.items():
        if key == "delta" and isinstance(value, dict):
            message = joined.setdefault("message", {"role": "assistant", "content": None})
            assert isinstance(message, dict)
            _add_delta(message, value)
        elif key == "logprobs" and isinstance(value, dict):
            _add_lists(joined, key, value)
        elif key == "text":
            joined[key] = f"{joined.get(key, '')}{value}"
        elif value is not None or key not in joined:
            joined[key] = value


def _add_delta(message: dict[str, object], delta: dict[str, object]) -> None:
    for key, value in delta.items():
        if key == "tool_calls" and isinstance(value, list):
            calls = message.setdefault(key, [])
            assert isinstance(calls, list)
            for call in value:
                _add_call(calls, call)
        elif isinstance(value, str) and key != "role" and isinstance(message.get(key), str):
            message[key] = f"{message[key]}{value}"
        elif value is not None:
            message[key] = value


def _add_call(calls: list[dict[str, object]], call: dict[str, object]) -> None:
    """A call's name comes whole in its first event, its arguments in pieces."""
    index = call.get("index", len(calls))
    assert isinstance(index, int)
    if index >= len(calls):
        calls.append({key: value for key, value in call.items() if key != "index"})
        return
    function, piece = calls[index].setdefault("function", {}), call.get("function")
    assert isinstance(function, dict)
    if isinstance(piece, dict) and piece.get("arguments"):
        function["arguments"] = f"{function.get('arguments') or ''}{piece['arguments']}"


def _add_lists(joined: dict[str, object], key: str, lists: dict[str, object]) -> None:
    known = joined.get(key)
    if not isinstance(known, dict):
        joined[key] = dict(lists)
        return
    for name, values in lists.items():
        if isinstance(values, list) and isinstance(known.get(name), list):
            known[name] = [*known[name], *values]
        else:
            known.setdefault(name, values)
