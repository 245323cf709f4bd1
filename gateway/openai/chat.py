"""/v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.forms import Count, WritingForm, read, refuse, without
from gateway.openai.models import ServedModels
from gateway.openai.writing import HARMLESS, Asked, check_bounds, wants_usage

_ROLES = ("developer", "system", "user", "assistant", "tool")
_UNSUPPORTED = {
    "functions": "describe them in `tools`",
    "function_call": "use `tool_choice`",
    "audio": "only text is written",
    "web_search_options": "a chain (`rag/<name>`) answers from tables",
    "store": "nothing is stored; leave it out",
    "verbosity": "say in the prompt how long the answer may be",
}


class ChatForm(WritingForm):
    messages: Annotated[list[dict[str, object]], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    modalities: list[str] | None = None


def chat(models: ServedModels, body: Mapping[str, object]) -> Asked:
    """The request, checked. Raises InvalidRequest, ModelNotFound."""
    form = read(ChatForm, body)
    engine = models.generator(form.model)
    refuse(body, _UNSUPPORTED)
    if form.modalities not in (None, ["text"]):
        raise Unsupported("modalities", "only text is written; leave it out or send ['text']")
    if body.get("tools") and not engine.info.takes_tools:
        raise Unsupported("tools", f"are not known to {form.model}: its chat template has none")
    _check_messages(form.messages)
    most = form.max_completion_tokens or form.max_tokens
    check_bounds(form, most, engine)
    own = without(body, *HARMLESS, "modalities", "max_completion_tokens", "stream_options")
    if most is not None:
        own["max_tokens"] = most
    own["messages"] = [_renamed(message) for message in form.messages]
    return Asked(engine, "chat/completions", own, models.timeout_s, wants_usage(form))


def _check_messages(messages: list[dict[str, object]]) -> None:
    for position, message in enumerate(messages):
        at, role = f"messages.{position}", message.get("role")
        if role not in _ROLES:
            raise InvalidRequest(
                f"{at}.role", f"is {role!r}; it must be one of {', '.join(_ROLES)}"
            )
        content = message.get("content")
        if not isinstance(content, str | list) and not message.get("tool_calls"):
            raise InvalidRequest(
                f"{at}.content", f"must be a text or a list of parts, got {content!r}"
            )


def _renamed(message: dict[str, object]) -> dict[str, object]:
    """`developer` is OpenAI's newer word for `system`, which every chat template knows."""
    return {**message, "role": "system"} if message["role"] == "developer" else message
