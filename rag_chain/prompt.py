"""The prompt: as many of the best passages as fit the token budget, then the question."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llm_endpoint.generation import Message
from vector_index.passages import Hit

CountTokens = Callable[[str], Awaitable[int]]

_SYSTEM = (
    "You are a helpful assistant. Answer the question in one or two sentences, using the context."
)
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "prompts"),
    undefined=StrictUndefined,
    trim_blocks=True,
    autoescape=False,
)


async def build_prompt(
    question: str, hits: Sequence[Hit], *, budget_tokens: int, count_tokens: CountTokens
) -> tuple[tuple[Message, ...], tuple[Hit, ...]]:
    """The messages, and the passages that are in them, best first.

    Drops the last passage until the text is within `budget_tokens`, counted by the engine; no
    passage at all is returned when even one does not fit.
    """
    template = _TEMPLATES.get_template("answer.jinja")
    kept = tuple(hits)
    while kept:
        text = template.render(question=question, hits=kept)
        if await count_tokens(_SYSTEM + text) <= budget_tokens:
            return (Message("system", _SYSTEM), Message("user", text)), kept
        kept = kept[:-1]
    return (), ()
