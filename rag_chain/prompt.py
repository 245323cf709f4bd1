"""The prompt: as many of the best passages as fit the token budget, then the question."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from feature_store.features import Value
from llm_endpoint.generation import Message
from vector_index.passages import Hit

CountTokens = Callable[[str], Awaitable[int]]

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "prompts"),
    undefined=StrictUndefined,
    trim_blocks=True,
    autoescape=False,
    # Else every render asks the disk whether the file has changed.
    auto_reload=False,
)


async def build_prompt(
    question: str,
    hits: Sequence[Hit],
    *,
    profile: Mapping[str, Value],
    budget_tokens: int,
    count_tokens: CountTokens,
) -> tuple[tuple[Message, ...], tuple[Hit, ...]]:
    """The messages, and the passages that are in them, best first.

    profile: what the system message's template may read about the user, by feature name.
    Drops the last passage until the text is within `budget_tokens`, counted by the engine; no
    passage at all is returned when even one does not fit.
    """
    system = _TEMPLATES.get_template("system.jinja").render(user=profile).strip()
    template = _TEMPLATES.get_template("answer.jinja")
    kept = tuple(hits)
    while kept:
        text = template.render(question=question, hits=kept)
        if await count_tokens(system + text) <= budget_tokens:
            return (Message("system", system), Message("user", text)), kept
        kept = kept[:-1]
    return (), ()
