"""/v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.extras import check_extras
from gateway.openai.forms import HARMLESS, Count, WritingForm, read, refuse, without
from gateway.openai.models import ServedModels
from gateway.openai.writing import Asked, check_bounds, wants_usage
from llm_endpoint.generation import GeneratorInfo

_ROLES = ("developer", "system", "user", "assistant", "tool")
_UNSUPPORTED = {
    "functions": "describe them in `tools`",
    "function_call": "use `tool_choice`",
    "audio": "only text is written",
    "web_search_options": "a chain (`rag/<name>`) answers from tables",
    "store": "nothing is stored; leave it out",
    "moderation": "nothing is moderated; leave it out",
    "verbosity": "say in the prompt how long the answer may be",
}


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, object] | None = None


class Tool(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["function"]
    function: dict[str, object]


class ChatForm(WritingForm):
    messages: Annotated[list[dict[str, object]], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    modalities: list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None


def chat(models: ServedModels, body: Mapping[str, object]) -> Asked:
    """The request, checked. Raises InvalidRequest, ModelNotFound."""
    form = read(ChatForm, body)
    engine = models.generator(form.model)
    refuse(body, _UNSUPPORTED)
    _check(form, engine.info)
    most = form.max_completion_tokens or form.max_tokens
    check_bounds(form, most, engine.info)
    own = without(
        body, *HARMLESS, *_UNSUPPORTED, "modalities", "max_completion_tokens", "stream_options"
    )
    if most is not None:
        own["max_tokens"] = most
    own["messages"] = [_renamed(message) for message in form.messages]
    return Asked(engine, "chat/completions", own, models.timeout_s, wants_usage(form))


def _check(form: ChatForm, info: GeneratorInfo) -> None:
    check_extras(form.extra(besides=_UNSUPPORTED), info.engine, form.model)
    if form.modalities not in (None, ["text"]):
        raise Unsupported("modalities", "only text is written; leave it out or send ['text']")
    if form.tools and not info.takes_tools:
        raise Unsupported("tools", f"are not known to {form.model}: its chat template has none")
    if form.top_logprobs and not form.logprobs:
        raise InvalidRequest("top_logprobs", "is only allowed with logprobs: true")
    wanted = form.response_format
    if wanted is not None and wanted.type == "json_schema":
        schema = (wanted.json_schema or {}).get("schema")
        if not isinstance(schema, dict):
            raise InvalidRequest(
                "response_format.json_schema.schema", f"must be a JSON schema, got {schema!r}"
            )
    for position, tool in enumerate(form.tools or []):
        if not isinstance(tool.function.get("name"), str):
            raise InvalidRequest(f"tools.{position}.function.name", "must be a text")
    for position, message in enumerate(form.messages):
        _check_message(message, f"messages.{position}", info)


def _check_message(message: Mapping[str, object], at: str, info: GeneratorInfo) -> None:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise InvalidRequest(f"{at}.role", f"is {role!r}; it must be one of {', '.join(_ROLES)}")
    if isinstance(content, list):
        for position, part in enumerate(content):
            _check_part(part, f"{at}.content.{position}", info)
    elif not isinstance(content, str) and not message.get("tool_calls"):
        raise InvalidRequest(f"{at}.content", f"must be a text or a list of parts, got {content!r}")


def _check_part(part: object, at: str, info: GeneratorInfo) -> None:
    kind = part.get("type") if isinstance(part, dict) else part
    if kind == "text" and isinstance(part, dict):
        if not isinstance(part.get("text"), str):
            raise InvalidRequest(f"{at}.text", f"must be a text, got {part.get('text')!r}")
    elif not isinstance(part, dict) or not isinstance(kind, str):
        raise InvalidRequest(at, f"must be an object with a `type`, got {kind!r}")
    elif info.engine not in ("vllm", "openai"):
        raise Unsupported(f"{at}.type", f"is {kind!r}; {info.model} reads texts only")


def _renamed(message: dict[str, object]) -> dict[str, object]:
    """`developer` is OpenAI's newer word for `system`, which every chat template knows."""
    return {**message, "role": "system"} if message["role"] == "developer" else message
