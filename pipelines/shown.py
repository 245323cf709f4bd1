"""Any row as JSON of bounded size: it is kept for a person to look at, not to be read back."""

import json
from collections.abc import Mapping

ROW_BYTES = 16_384
# Values are cut before the whole is, so that one huge column does not hide the others.
_TEXT_CHARACTERS = 2_000
_ITEMS = 32
_DEPTH = 4


def shown_row(row: Mapping[str, object] | str) -> str:
    """JSON of a row, or of a text, in at most ROW_BYTES of UTF-8; what is cut off ends in `…`.

    Whatever JSON has no form for is written as Python writes it.
    """
    form = _text(row) if isinstance(row, str) else _form(row, _DEPTH)
    return as_text(json.dumps(form, ensure_ascii=False, default=_strange), size_bytes=ROW_BYTES)


def as_text(text: str, *, size_bytes: int | None = None) -> str:
    """The text as Unicode that can be stored; a lone surrogate is written as its escape."""
    content = text.encode("utf-8", "backslashreplace")
    if size_bytes is None or len(content) <= size_bytes:
        return content.decode()
    ellipsis = "…".encode()
    return (content[: size_bytes - len(ellipsis)]).decode(errors="ignore") + "…"


def _form(value: object, depth: int) -> object:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return _text(repr(value[:_TEXT_CHARACTERS]))
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, Mapping):
        return {_text(str(name)): _form(inner, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        some = [_form(inner, depth - 1) for inner in value[:_ITEMS]]
        return some if len(value) <= _ITEMS else [*some, f"… {len(value)} in all"]
    return _strange(value)


def _text(text: str) -> str:
    return text if len(text) <= _TEXT_CHARACTERS else text[:_TEXT_CHARACTERS] + "…"


def _strange(value: object) -> str:
    try:
        return _text(repr(value))
    except Exception as exc:  # noqa: BLE001 - a value's own repr may do anything
        return f"a {type(value).__name__} without a text ({type(exc).__name__})"
