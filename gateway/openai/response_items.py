"""Items of a Responses request in chat's words."""

from collections.abc import Mapping

from gateway.openai.errors import InvalidRequest, Unsupported

_PARTS = ("input_text", "output_text", "text")


def message_of(item: Mapping[str, object], at: str) -> dict[str, object]:
    """A message, an earlier call of a function, or what it came to. at: its path in the body."""
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role"), "content": _content(item.get("content"), f"{at}.content")}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        content = _content(item.get("output"), f"{at}.output")
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
    raise Unsupported(f"{at}.type", f"is {kind!r}; messages and function calls are read")


def tool_of(tool: Mapping[str, object], at: str) -> dict[str, object]:
    """A function that the model may call."""
    if tool.get("type") != "function":
        raise Unsupported(f"{at}.type", f"is {tool.get('type')!r}; functions are what it can call")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if name in tool}}


def _content(content: object, at: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(at, f"must be a text or a list of parts, got {content!r}")
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else part
        if kind not in _PARTS:
            raise Unsupported(f"{at}.{index}", f"is {kind!r}; texts are read")
    return "".join(str(part.get("text", "")) for part in content)
