"""What a text column holds, as the plain text that passages are cut from."""

import re
from collections.abc import Callable, Mapping

from markdown_it import MarkdownIt

from pipelines.sources.html import html_text
from pipelines.sources.protocol import TextFormat, TextFrom

# The parser calls itself for each level, and leaves out what is nested deeper than it is told.
_MAX_NESTING = 100
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


def plain_text(text: str, text_format: TextFormat) -> str:
    """The text a reader sees. Passages' `start` and `end` are character offsets into this text,
    which for `plain` is the column's value itself, and for the others is not.

    Headings stand on lines of their own, after more line breaks than anything else and one before
    what they head, so that a splitter cuts before them. Code blocks keep their lines and spaces.
    """
    return _READERS[text_format](text)


def text_recipe(text_format: TextFormat, text_from: TextFrom = "text") -> Mapping[str, int]:
    """What to record beside the chunking of an index: which reading its offsets count in.

    The number rises whenever the same input gives another text. Empty for `plain`.
    """
    if text_from != "text":
        return {"document_text": 1}
    return {} if text_format == "plain" else {f"{text_format}_text": 1}


def _as_is(text: str) -> str:
    return text


def _markdown_text(text: str) -> str:
    """CommonMark with tables; its HTML is read as HTML, YAML at its head is dropped.

    What is nested too deep to be read is taken as it is written, so that no word is lost.
    """
    body = _FRONT_MATTER.sub("", text, count=1)
    parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable("table")
    tokens = parser.parse(body)
    if any(token.level >= _MAX_NESTING - 1 for token in tokens):
        return body
    return html_text(parser.renderer.render(tokens, parser.options, {}))


_READERS: Mapping[TextFormat, Callable[[str], str]] = {
    "plain": _as_is,
    "markdown": _markdown_text,
    "html": html_text,
}
