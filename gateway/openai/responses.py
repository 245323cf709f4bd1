"""/v1/responses over chat: what of it a model without a memory of its own can do."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

import orjson
from pydantic import Field

from gateway.errors import explain
from gateway.openai.chat import chat
from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.forms import Form, StreamOptions, read, refuse, refuse_unknown
from gateway.openai.models import ServedModels
from gateway.openai.response_events import ResponseEvents
from gateway.openai.response_items import message_of, tool_of
from gateway.openai.writing import Asked

_UNSUPPORTED = {
    "previous_response_id": "nothing is stored; send the conversation as `input`",
    "conversation": "nothing is stored; send the conversation as `input`",
    "background": "use /v1/batches",
    "prompt": "send the text itself as `input`",
    "include": "there is nothing to include",
    "reasoning": "leave it out",
    "store": "nothing is stored; send false or leave it out",
    "max_tool_calls": "no tool is called by the server",
    "top_logprobs": "use /v1/chat/completions",
    "moderation": "nothing is moderated; leave it out",
    "context_management": "send fewer messages instead",
}


class ResponseForm(Form):
    input: str | list[dict[str, object]]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: list[dict[str, object]] | None = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, object] | None = None
    truncation: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A request for a response, as the chat that answers it."""

    asked: Asked
    head: Mapping[str, object]

    async def whole(self) -> bytes:
        made = orjson.loads(await self.asked.whole())
        events = ResponseEvents(self.head)
        list(events.add(_as_event(made)))
        *_, last = events.end()
        return orjson.dumps(last["response"])

    async def events(self) -> AsyncGenerator[bytes, None]:
        events = ResponseEvents(self.head)
        async with aclosing(self.asked.events()) as chunks:
            first = await anext(chunks, None)
            for event in events.begin():
                yield orjson.dumps(event)
            try:
                async for chunk in _all(first, chunks):
                    for event in events.add(orjson.loads(chunk)):
                        yield orjson.dumps(event)
            except Exception as exc:  # noqa: BLE001 - the status is sent; the client must learn
                yield orjson.dumps(events.error(explain(exc)[1]))
                return
        for event in events.end():
            yield orjson.dumps(event)


async def _all(
    first: bytes | None, others: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    if first is not None:
        yield first
    async for one in others:
        yield one


def responses(models: ServedModels, body: Mapping[str, object]) -> Response:
    """The request, checked. Raises InvalidRequest, ModelNotFound."""
    form = read(ResponseForm, body)
    refuse(body, _UNSUPPORTED)
    refuse_unknown(form, besides=_UNSUPPORTED)
    if form.truncation not in (None, "disabled"):
        raise Unsupported("truncation", f"is {form.truncation!r}; send fewer messages instead")
    asked = chat(models, _chat_body(form))
    return Response(asked, _head(form))


def _chat_body(form: ResponseForm) -> dict[str, object]:
    body: dict[str, object] = {"model": form.model, "messages": _messages(form)}
    if form.max_output_tokens is not None:
        body["max_tokens"] = form.max_output_tokens
    for name in ("temperature", "top_p", "parallel_tool_calls"):
        if (value := getattr(form, name)) is not None:
            body[name] = value
    if form.tools:
        body["tools"] = [tool_of(tool, f"tools.{i}") for i, tool in enumerate(form.tools)]
        if form.tool_choice is not None:
            body["tool_choice"] = _choice(form.tool_choice)
    if (wanted := _response_format(form.text)) is not None:
        body["response_format"] = wanted
    if form.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _messages(form: ResponseForm) -> list[dict[str, object]]:
    messages: list[dict[str, object]] = []
    if form.instructions is not None:
        messages.append({"role": "system", "content": form.instructions})
    if isinstance(form.input, str):
        messages.append({"role": "user", "content": form.input})
    else:
        messages += [message_of(item, f"input.{i}") for i, item in enumerate(form.input)]
    return messages


def _choice(choice: str | dict[str, object]) -> str | dict[str, object]:
    if isinstance(choice, str):
        return choice
    return {"type": "function", "function": {"name": choice.get("name")}}


def _response_format(text: dict[str, object] | None) -> dict[str, object] | None:
    """`text.format` in chat's words."""
    form = (text or {}).get("format")
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") not in ("text", "json_object", "json_schema"):
        raise InvalidRequest(
            "text.format", f"must be text, json_object or json_schema, got {form!r}"
        )
    if form["type"] != "json_schema":
        return dict(form)
    return {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}


def _head(form: ResponseForm) -> dict[str, object]:
    """What a response says of its request."""
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": form.model,
        "instructions": form.instructions,
        "max_output_tokens": form.max_output_tokens,
        "metadata": form.metadata or {},
        "parallel_tool_calls": form.parallel_tool_calls is not False,
        "temperature": form.temperature,
        "top_p": form.top_p,
        "tool_choice": form.tool_choice or "auto",
        "tools": form.tools or [],
        "text": form.text or {"format": {"type": "text"}},
        "previous_response_id": None,
        "truncation": "disabled",
        "error": None,
    }


def _as_event(answer: dict[str, object]) -> dict[str, object]:
    """A whole chat answer as if it were its only event."""
    listed = answer.get("choices")
    choices = listed if isinstance(listed, list) else []
    deltas = [
        {
            "delta": {
                **choice.get("message", {}),
                "tool_calls": [
                    {"index": i, **call}
                    for i, call in enumerate(choice.get("message", {}).get("tool_calls") or [])
                ],
            },
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in choices
    ]
    return {**answer, "choices": deltas}
