"""What a server answers, as values: frozen, typed, free of HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

# A date or time in a feature or in metadata arrives as ISO 8601 text and stays text.
Scalar = str | int | float | bool | None
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class IndexVersion:
    """The index generation and the table version behind an answer."""

    index: str
    generation: str
    created_at: datetime
    table_id: str
    table_version: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the index was behind its table.

    versions: commits not yet indexed; None where the table was recreated and cannot be counted.
    seconds: age of the oldest commit that is not indexed, 0.0 where there is none.
    """

    versions: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that a sentence of the answer rests on.

    marker: the number in the answer's text. start, end: character offsets in the document.
    score: cosine of question and passage. support: share of the sentence's words that stand in
    the passage, 0..1. origin: `model` where the model wrote the marker, `attributed` where the
    server found the passage by its words.
    """

    marker: int
    document_id: str
    title: str
    start: int
    end: int
    score: float
    support: float
    origin: str


@dataclass(frozen=True, slots=True)
class Feature:
    """A fact about the user or a document.

    age_s: seconds since it was true, None for a key that nobody knows. A stale one changed nothing.
    """

    view: str
    key: str
    name: str
    value: Value
    age_s: float | None
    is_stale: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the model read and wrote."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and everything it was built from. `is_known` is false: nothing was relevant.

    lag: None where the server did not measure it. timings_s: seconds per stage.
    """

    id: str
    chain: str
    text: str
    is_known: bool
    citations: tuple[Citation, ...]
    version: IndexVersion
    lag: Lag | None
    features: tuple[Feature, ...]
    model: str
    usage: Usage
    timings_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer as the model wrote it; only the Answer has its citations checked."""

    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found; `score` is what ranked it, higher is better.

    score: the cosine, the BM25 of a full text search, or the fused score of a hybrid one.
    vector_score: the cosine. text_score: the BM25; None where words did not find it.
    """

    document_id: str
    title: str
    text: str
    start: int
    end: int
    score: float
    vector_score: float | None
    text_score: float | None
    metadata: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, all from one index generation."""

    hits: tuple[Hit, ...]
    version: IndexVersion


@dataclass(frozen=True, slots=True)
class IndexSync:
    """The syncs of an index from its table.

    phase: `idle`, `syncing`, `failing`, or `stopped` where none runs. pending_rows: documents that
    the one under way has yet to do, None where none is or it does not know yet. failures: in a
    row, 0 after a success, which keeps last_error. rows_per_s, duration_s: of the last one that
    changed anything.
    """

    phase: str
    pending_rows: int | None
    failures: int
    last_error: str | None
    last_error_at: datetime | None
    rows_per_s: float | None
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class IndexProof:
    """What the last comparison of an index with its table found, in documents."""

    at: datetime
    is_equal: bool
    missing: int
    extra: int
    changed: int


@dataclass(frozen=True, slots=True)
class IndexDrift:
    """The vectors of the newest generation that wrote any, against all written before them.

    mean_cosine: of the two mean directions, 1 where nothing drifts. spread, index_spread: 0 for
    vectors all alike, 1 for all directions alike. None where there is nothing to compare with.
    """

    generation: str
    vectors: int
    mean_cosine: float | None
    spread: float | None
    index_spread: float | None
    near_zero_share: float | None


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index as the server has it. problem: why it cannot be searched, None where it can.

    version: None before the first sync. lag: None where it cannot be measured. pending_rows:
    touched in the table and not indexed yet, None where the table keeps no record. sync, proof,
    drift: None where there was none so far.
    """

    name: str
    documents: int
    passages: int
    version: IndexVersion | None
    lag: Lag | None
    pending_rows: int | None
    problem: str | None
    sync: IndexSync | None
    proof: IndexProof | None
    drift: IndexDrift | None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether questions can be answered now; `problems` names the parts that are not there."""

    is_ready: bool
    problems: Mapping[str, str]
