"""The OpenAI chat wire format: requests out, answers and errors in. No network here."""

import re
from collections.abc import Mapping
from typing import Literal

import orjson

from llm_endpoint.errors import (
    ContextOverflow,
    EngineAnswerInvalid,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
)
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

# llama.cpp: "request (731 tokens) exceeds the available context size (512 tokens)"; it also sends
# both as fields. vLLM and OpenAI: "maximum context length is 4096 tokens ... 5000 in the messages"
_OVERFLOW = re.compile(
    r"context (?:length|size|window)|exceed_context_size|context_length_exceeded", re.IGNORECASE
)


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
        check_texts([message.content for message in request.messages])
        raise EngineRefused(model, 400, f"the request is not valid JSON: {exc}") from exc


def decode_object(data: bytes | str, model: str) -> Mapping[str, object]:
    """The JSON object in `data`. Raises EngineAnswerInvalid."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise EngineAnswerInvalid(model, f"not JSON: {data[:80]!r}") from exc
    if not isinstance(value, dict):
        raise EngineAnswerInvalid(model, f"not a JSON object: {data[:80]!r}")
    return value


def decode_completion(body: Mapping[str, object], model: str) -> Completion:
    choice = _first_choice(body)
    text = _field(choice, "message").get("content")
    reason, usage = choice.get("finish_reason"), decode_usage(body)
    if not isinstance(text, str | None) or not isinstance(reason, str) or usage is None:
        raise EngineAnswerInvalid(model, "no choices[0].message.content, finish_reason or usage")
    return Completion(text or "", reason, usage, model)


def decode_delta(body: Mapping[str, object], model: str) -> CompletionDelta:
    """One event of a stream; the usage event has neither text nor finish reason."""
    choice = _first_choice(body)
    text, reason = _field(choice, "delta").get("content"), choice.get("finish_reason")
    if not isinstance(text, str | None) or not isinstance(reason, str | None):
        raise EngineAnswerInvalid(model, "choices[0].delta.content is not a text")
    return CompletionDelta(text or "", reason, decode_usage(body))


def decode_usage(body: Mapping[str, object]) -> TokenUsage | None:
    usage = _field(body, "usage")
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        return TokenUsage(prompt, completion)
    return None


def decode_error(status: int, data: bytes, model: str) -> EngineError:
    """The error of our tree for an answer that is not 2xx."""
    try:
        error = _field(decode_object(data, model), "error")
    except EngineAnswerInvalid:
        error = {}
    message = str(error.get("message") or data[:300].decode("utf-8", "replace") or "no message")
    if status == 503:
        return EngineUnavailable(f"{model} is not ready: {message}; try again in a moment")
    if status >= 500:
        return EngineFailed(model, status, message)
    if status in (400, 413) and _OVERFLOW.search(
        f"{message} {error.get('type')} {error.get('code')}"
    ):
        counts = error.get("n_prompt_tokens"), error.get("n_ctx")
        prompt, context = (count if isinstance(count, int) else None for count in counts)
        return ContextOverflow(model, prompt, context, status)
    return EngineRefused(model, status, message)


def error_in_stream(body: Mapping[str, object], model: str) -> EngineError | None:
    """A stream has sent its 200 already: later failures come as an event with `error`."""
    if "error" not in body:
        return None
    code = _field(body, "error").get("code")
    return decode_error(code if isinstance(code, int) else 500, orjson.dumps(body), model)


def _first_choice(body: Mapping[str, object]) -> Mapping[str, object]:
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    return choice if isinstance(choice, dict) else {}


def _field(body: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}
