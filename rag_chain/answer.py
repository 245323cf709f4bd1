"""What an answer carries: its text, and everything it was built from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from feature_store.features import Feature
from llm_endpoint.generation import TokenUsage
from vector_index.passages import IndexVersion, Lag


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that was in the prompt and that a sentence of the answer rests on.

    start, end: character offsets of the passage in the document's text.
    score: cosine of question and passage. support: share of the sentence's words that stand in
    the passage, 0..1. origin: `model` where the model wrote the marker itself, `attributed`
    where we found the passage by its words.
    """

    marker: int
    document_id: str
    title: str
    start: int
    end: int
    score: float
    support: float
    origin: Literal["model", "attributed"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and its provenance. `is_known` is false when no passage was relevant.

    id: `ans_` and 32 hex digits, new for every answer. chain: the name of the chain that made it.
    timings_s: seconds per stage (embed, search, rerank, features, prompt, generate). features:
    what is known about the user and the documents in the prompt, with age; a stale one changed
    nothing. finish_reason: as in Completion.
    lag: how far the table was ahead of the index when the answer was made, None where nobody
    measured it.
    """

    id: str
    chain: str
    text: str
    is_known: bool
    citations: tuple[Citation, ...]
    version: IndexVersion
    model: str
    usage: TokenUsage
    timings_s: Mapping[str, float]
    features: tuple[Feature, ...] = ()
    lag: Lag | None = None
    finish_reason: str = "stop"
