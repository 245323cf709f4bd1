"""The events of a response, made of the chunks of a chat: OpenAI's sequence, item by item."""

import uuid
from collections.abc import Iterator, Mapping

Event = dict[str, object]


class ResponseEvents:
    """begin(), add() for each chunk in order, end(); each yields the events that are due."""

    def __init__(self, head: Mapping[str, object]) -> None:
        """head: what the response says of its request, with its `id`."""
        self._head = head
        self._number = -1
        self._items: list[Event] = []
        self._text: _Text | None = None
        self._calls: dict[int, _Call] = {}
        self._reason: str | None = None
        self._usage: dict[str, object] | None = None

    def begin(self) -> Iterator[Event]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))

    def add(self, chunk: Mapping[str, object]) -> Iterator[Event]:
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            delta = choice.get("delta") or {}
            if delta.get("content"):
                yield from self._write(delta["content"])
            for call in delta.get("tool_calls") or []:
                yield from self._call(call)
            self._reason = choice.get("finish_reason") or self._reason

    def end(self) -> Iterator[Event]:
        if self._text is None and not self._calls:
            # An answer without a word is an empty message, not none.
            yield from self._open_text()
        yield from self._close_text()
        for call in self._calls.values():
            yield from self._close_call(call)
        is_whole = self._reason != "length"
        status = "completed" if is_whole else "incomplete"
        yield self._event(f"response.{status}", response=self._response(status))

    def error(self, form: Mapping[str, object]) -> Event:
        """The last event of a response that failed on its way. form: the body of an error."""
        error = form["error"]
        assert isinstance(error, dict)
        told = {name: error[name] for name in ("code", "message", "param")}
        return self._event("error", **told)

    def _write(self, piece: str) -> Iterator[Event]:
        if self._text is None:
            yield from self._open_text()
        assert self._text is not None
        self._text.pieces.append(piece)
        yield self._event(
            "response.output_text.delta", **self._text.place(), delta=piece, logprobs=[]
        )

    def _open_text(self) -> Iterator[Event]:
        self._text = text = _Text(len(self._items))
        self._items.append(text.item("in_progress"))
        yield self._event("response.output_item.added", output_index=text.index,
                          item={**text.item("in_progress"), "content": []})  # fmt: skip
        yield self._event("response.content_part.added", **text.place(), part=text.part())

    def _close_text(self) -> Iterator[Event]:
        if (text := self._text) is None:
            return
        self._items[text.index] = text.item("completed")
        yield self._event("response.output_text.done", **text.place(), text=text.whole, logprobs=[])
        yield self._event("response.content_part.done", **text.place(), part=text.part())
        yield self._event(
            "response.output_item.done", output_index=text.index, item=text.item("completed")
        )

    def _call(self, delta: Mapping[str, object]) -> Iterator[Event]:
        number = delta.get("index", 0)
        assert isinstance(number, int)
        function = delta.get("function")
        named = function if isinstance(function, dict) else {}
        if number not in self._calls:
            call = _Call(len(self._items), str(delta.get("id")), str(named.get("name")))
            self._calls[number] = call
            self._items.append(call.item("in_progress"))
            yield self._event(
                "response.output_item.added", output_index=call.index, item=call.item("in_progress")
            )
        call = self._calls[number]
        if piece := named.get("arguments"):
            call.pieces.append(piece)
            yield self._event("response.function_call_arguments.delta", **call.place(), delta=piece)

    def _close_call(self, call: "_Call") -> Iterator[Event]:
        self._items[call.index] = call.item("completed")
        yield self._event(
            "response.function_call_arguments.done",
            **call.place(), name=call.name, arguments="".join(call.pieces),
        )  # fmt: skip
        yield self._event(
            "response.output_item.done", output_index=call.index, item=call.item("completed")
        )

    def _response(self, status: str) -> Event:
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **self._head,
            "status": status,
            "incomplete_details": cut,
            "output": list(self._items) if status != "in_progress" else [],
            "usage": None if status == "in_progress" else _usage(self._usage),
        }

    def _event(self, kind: str, **fields: object) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}


class _Text:
    """The message under way."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = f"msg_{uuid.uuid4().hex}"
        self.pieces: list[str] = []

    @property
    def whole(self) -> str:
        return "".join(self.pieces)

    def place(self) -> dict[str, object]:
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}

    def part(self) -> Event:
        return {"type": "output_text", "text": self.whole, "annotations": [], "logprobs": []}

    def item(self, status: str) -> Event:
        return {"id": self.id, "type": "message", "role": "assistant", "status": status,
                "content": [self.part()]}  # fmt: skip


class _Call:
    """A call of a function under way; its name comes whole, its arguments in pieces."""

    def __init__(self, index: int, call_id: str, name: str) -> None:
        self.index, self.call_id, self.name = index, call_id, name
        self.id = f"fc_{uuid.uuid4().hex}"
        self.pieces: list[str] = []

    def place(self) -> dict[str, object]:
        return {"item_id": self.id, "output_index": self.index}

    def item(self, status: str) -> Event:
        return {"id": self.id, "type": "function_call", "call_id": self.call_id, "name": self.name,
                "arguments": "".join(self.pieces), "status": status}  # fmt: skip


def _usage(usage: Mapping[str, object] | None) -> Event | None:
    if usage is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens", 0) if isinstance(details, dict) else 0
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": cached or 0, "cache_write_tokens": 0},
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.get("total_tokens", 0),
    }
