"""A prompt with the names of columns in it, filled from a row."""

import string
from collections.abc import Mapping
from datetime import date, datetime, time

import orjson

from pipelines.errors import BadPrompt


class UnfillableRow(Exception):
    """This row has no value, or none that is text, for a column of the prompt."""


class PromptTemplate:
    """`Summarise: {body}`; `{{` and `}}` are braces. Nothing but names of columns is evaluated."""

    def __init__(self, text: str) -> None:
        """Raises BadPrompt where it is no template, or names no column."""
        try:
            self._pieces = [(piece[0], _column(piece)) for piece in string.Formatter().parse(text)]
        except ValueError as exc:
            raise BadPrompt(
                f"the prompt {text!r} is no template: {exc}; write {{column}} for a column's "
                "value, and {{{{ or }}}} for a brace"
            ) from exc
        self.text = text
        named = (column for _, column in self._pieces if column is not None)
        self.columns = tuple(dict.fromkeys(named))
        if not self.columns:
            raise BadPrompt(f"the prompt {text!r} names no column, so all rows would ask the same")

    def fill(self, row: Mapping[str, object]) -> str:
        """The prompt of one row. Raises UnfillableRow for a null or binary value."""
        return "".join(
            literal + ("" if column is None else _as_text(column, row[column]))
            for literal, column in self._pieces
        )


def _column(piece: tuple[str, str | None, str | None, str | None]) -> str | None:
    _, name, form, conversion = piece
    if name is None:
        return None
    if form or conversion:
        raise ValueError(f"{{{name}}} has a format; only the name of a column is allowed")
    if not name:
        raise ValueError("{} has no name of a column")
    return name


def _as_text(column: str, value: object) -> str:
    match value:
        case str():
            return value
        case None:
            raise UnfillableRow(f"column {column!r} is null")
        case bytes():
            raise UnfillableRow(f"column {column!r} is binary, not text")
        case datetime() | date() | time():
            return value.isoformat()
        case list() | dict():
            return orjson.dumps(value, default=str).decode()
    return str(value)
