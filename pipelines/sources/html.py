"""HTML as the text a reader sees, with blank lines where a splitter should prefer to cut."""

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

_DROPPED = frozenset(
    {
        "head", "script", "style", "noscript", "template", "nav", "svg", "canvas", "iframe",
        "object", "audio", "video", "button", "select", "textarea", "dialog",
    }
)  # fmt: skip
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "caption", "center", "details", "div",
        "dl", "dt", "dd", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup",
        "hr", "html", "legend", "main", "p", "pre", "section", "summary", "table", "ul", "ol",
    }
)  # fmt: skip
# Line breaks before each heading. A splitter prefers the longest run of them, so a text is cut
# before a heading and, of two, before the higher; one break after keeps it with what it heads.
_HEADINGS = {"h1": 5, "h2": 4, "h3": 3, "h4": 3, "h5": 3, "h6": 3}
_CELLS = ("td", "th")
_SPACES = re.compile(r"[ \t\n\r\f]+")


def html_text(html: str) -> str:
    """The visible text: entities decoded, white space as a browser shows it, `pre` kept as it is.

    Scripts, styles, navigation, form controls and hidden elements are dropped. List items begin
    with `- `, or with their number; cells of a table row are joined by ` | `.
    """
    # HTML knows no NUL; lexbor would drop what follows one in some states.
    root = LexborHTMLParser(html.replace("\x00", "\ufffd")).root
    writer = _Writer()
    if root is not None:
        _walk(root, writer)
    return writer.text()


@dataclass(slots=True)
class _Writer:
    """Puts text together; breaks asked for between two pieces become the larger of the two.

    is_held: what comes next stays where it is: on a list marker's line, or under its heading.
    """

    pieces: list[str] = field(default_factory=list)
    breaks: int = 0
    is_spaced: bool = False
    is_held: bool = False
    pre_depth: int = 0
    counters: list[int | None] = field(default_factory=list)

    def break_by(self, lines: int) -> None:
        if not self.is_held:
            self.breaks = max(self.breaks, lines)
            self.is_spaced = False

    def mark(self, marker: str) -> None:
        """Begins a list item: its text follows on the same line, whatever element holds it."""
        self.write(marker)
        self.is_held = True

    def end_heading(self) -> None:
        self.breaks, self.is_spaced, self.is_held = 1, False, True

    def end_pre(self) -> None:
        if self.pieces:
            self.pieces[-1] = self.pieces[-1].rstrip("\n")
        self.pre_depth -= 1

    def write(self, text: str) -> None:
        if self.pre_depth:
            self._put(text)
            return
        words = _SPACES.sub(" ", text)
        self.is_spaced = self.is_spaced or words.startswith(" ")
        if body := words.strip(" "):
            self._put(body)
            self.is_spaced = words.endswith(" ")

    def _put(self, text: str) -> None:
        if self.pieces and self.breaks:
            self.pieces.append("\n" * self.breaks)
        elif self.pieces and self.is_spaced:
            self.pieces.append(" ")
        self.pieces.append(text)
        self.breaks, self.is_spaced, self.is_held = 0, False, False

    def text(self) -> str:
        return "".join(self.pieces).strip("\n")


def _walk(root: LexborNode, writer: _Writer) -> None:
    """Every node in document order, by hand: recursion would end on deep documents."""
    node: LexborNode | None = root
    while node is not None:
        below = None
        if node.is_text_node:
            writer.write(node.text_content or "")
        elif node.is_element_node and not _is_dropped(node):
            _enter(node, writer)
            below = node.child
            if below is None:
                _leave(node, writer)
        elif node.is_document_node:
            below = node.child
        if below is not None:
            node = below
            continue
        node = _after(node, root, writer)


def _after(node: LexborNode, root: LexborNode, writer: _Writer) -> LexborNode | None:
    """The next node that is not below this one, leaving the elements that end before it."""
    here: LexborNode | None = node
    # Nodes compare by the HTML under them, which on the way up from deep would take minutes.
    while here is not None and here.mem_id != root.mem_id:
        if here.next is not None:
            return here.next
        here = here.parent
        if here is not None and here.is_element_node:
            _leave(here, writer)
    return None


def _is_dropped(node: LexborNode) -> bool:
    if node.tag in _DROPPED:
        return True
    attributes = node.attributes
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") == "navigation"
    )


def _enter(node: LexborNode, writer: _Writer) -> None:
    tag = node.tag or ""
    if tag == "br":
        writer.break_by(writer.breaks + 1)
    elif tag in _HEADINGS:
        writer.break_by(_HEADINGS[tag])
    elif tag == "li":
        writer.break_by(1)
        writer.mark(_marker(writer))
    elif tag in ("tr", "dt", "dd"):
        writer.break_by(1)
    elif tag in _CELLS and _has_cell_before(node):
        writer.write(" | ")
    elif tag in _BLOCKS:
        # What stands in a list item belongs to it.
        writer.break_by(1 if writer.counters else 2)
    if tag in ("ul", "ol"):
        writer.counters.append(0 if tag == "ol" else None)
    writer.pre_depth += tag == "pre"


def _leave(node: LexborNode, writer: _Writer) -> None:
    tag = node.tag or ""
    if tag == "pre":
        writer.end_pre()
    if tag == "li":
        writer.is_held = False
    if tag in ("ul", "ol"):
        writer.counters.pop()
    if tag in _HEADINGS:
        writer.end_heading()
    elif tag in ("li", "tr", "dt", "dd"):
        writer.break_by(1)
    elif tag in _BLOCKS:
        writer.break_by(1 if writer.counters else 2)


def _marker(writer: _Writer) -> str:
    number = writer.counters[-1] if writer.counters else None
    if number is None:
        return "- "
    writer.counters[-1] = number + 1
    return f"{number + 1}. "


def _has_cell_before(node: LexborNode) -> bool:
    before = node.prev
    while before is not None:
        if before.tag in _CELLS:
            return True
        before = before.prev
    return False
