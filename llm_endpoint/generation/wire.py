"""The OpenAI chat wire format: requests out, answers and errors in. No network here."""

from collections.abc import Mapping
from typing import Literal

import orjson

from llm_endpoint.connection import decode_error, object_field
from llm_endpoint.errors import EngineAnswerInvalid, EngineError, EngineRefused
from llm_endpoint.generation.control_tokens import defused
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    TokenUsage,
)
from llm_endpoint.text import check_texts

Dialect = Literal["openai", "llama.cpp", "vllm"]
"""openai: the bare protocol, and no /tokenize."""


def encode_request(
    request: GenerationRequest, model: str, *, stream: bool, dialect: Dialect
) -> bytes:
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": m.role, "content": defused(m.content)} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["seed"] = request.seed
    return _encoded(body, model, stream=stream, dialect=dialect)


def encode_body(body: Mapping[str, object], model: str, *, stream: bool, dialect: Dialect) -> bytes:
    """A request in OpenAI's own words, for this engine. Raises EngineRefused, InvalidText."""
    own: dict[str, object] = {**body, "model": model}
    own.pop("stream", None)
    own.pop("stream_options", None)
    messages = own.get("messages")
    if isinstance(messages, list):
        own["messages"] = [_defused_message(message) for message in messages]
    return _encoded(own, model, stream=stream, dialect=dialect)


def decode_completion(body: Mapping[str, object], model: str) -> Completion:
    choice = _first_choice(body)
    text = object_field(choice, "message").get("content")
    reason, usage = choice.get("finish_reason"), decode_usage(body)
    if not isinstance(text, str | None) or not isinstance(reason, str) or usage is None:
        raise EngineAnswerInvalid(model, "no choices[0].message.content, finish_reason or usage")
    return Completion(text or "", reason, usage, model)


def decode_delta(body: Mapping[str, object], model: str) -> CompletionDelta:
    """One event of a stream; the usage event has neither text nor finish reason."""
    choice = _first_choice(body)
    text, reason = object_field(choice, "delta").get("content"), choice.get("finish_reason")
    if not isinstance(text, str | None) or not isinstance(reason, str | None):
        raise EngineAnswerInvalid(model, "choices[0].delta.content is not a text")
    return CompletionDelta(text or "", reason, decode_usage(body))


def decode_usage(body: Mapping[str, object]) -> TokenUsage | None:
    usage = object_field(body, "usage")
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        return TokenUsage(prompt, completion)
    return None


def error_in_stream(body: Mapping[str, object], model: str) -> EngineError | None:
    """A stream has sent its 200 already: later failures come as an event with `error`."""
    if "error" not in body:
        return None
    code = object_field(body, "error").get("code")
    return decode_error(code if isinstance(code, int) else 500, orjson.dumps(body), model)


def _first_choice(body: Mapping[str, object]) -> Mapping[str, object]:
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    return choice if isinstance(choice, dict) else {}


def _encoded(body: dict[str, object], model: str, *, stream: bool, dialect: Dialect) -> bytes:
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        if dialect == "llama.cpp":
            # It notices a client that left only when it writes. Progress events make it write
            # during the prompt: a cancelled 2,800-token prompt ends in 0.5 s instead of 12 s.
            body["return_progress"] = True
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as exc:
        # The one thing our types let through: a str that is not valid Unicode.
        check_texts(_texts(body.get("messages")))
        raise EngineRefused(model, 400, f"the request is not valid JSON: {exc}") from exc


def _texts(messages: object) -> list[str]:
    listed = messages if isinstance(messages, list) else []
    contents = (message.get("content") for message in listed if isinstance(message, dict))
    return [content for content in contents if isinstance(content, str)]


def _defused_message(message: object) -> object:
    """A message as a client sent it; what is not one is the engine's to refuse."""
    if not isinstance(message, dict):
        return message
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": defused(content)}
    if isinstance(content, list):
        return {**message, "content": [_defused_part(part) for part in content]}
    return message


def _defused_part(part: object) -> object:
    if isinstance(part, dict) and isinstance(text := part.get("text"), str):
        return {**part, "text": defused(text)}
    return part
