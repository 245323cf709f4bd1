"""The words of this room: passages, who may see them, hits, and what an answer was built from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.errors import InvalidDelta

_TABLE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")

MetadataValue = str | int | float | bool | datetime | date | tuple[str, ...] | None
MetadataType = Literal["string", "int", "float", "bool", "timestamp", "date", "strings"]

ARROW_TYPES: Mapping[MetadataType, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "strings": pa.list_(pa.string()),
}

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("document_hash", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who is asking. They see passages of their `tenant` that allow one of their `groups`.

    An index that declares no tenant (or groups) column does not restrict by it; in one that
    does, a row with a null tenant or no groups is visible to nobody.
    """

    tenant: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a document. `start` and `end` are character offsets into the document's text."""

    document_id: str
    ordinal: int
    title: str
    text: str
    start: int
    end: int
    text_hash: str
    tenant: str | None = None
    allowed_groups: tuple[str, ...] | None = None
    updated_at: datetime | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)

    @property
    def passage_id(self) -> str:
        return f"{self.document_id}#{self.ordinal}"


def may_see(passage: Passage, access: Access, *, has_tenant: bool, has_groups: bool) -> bool:
    """Whether the asker may see the passage: the plain rule, read off the row itself.

    has_tenant, has_groups: whether the index restricts by tenant and by group.
    """
    if has_tenant and (passage.tenant is None or passage.tenant != access.tenant):
        return False
    return not has_groups or not access.groups.isdisjoint(passage.allowed_groups or ())


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found by a search; `score` is what it was ranked by, higher is better.

    score: cosine similarity, BM25, or the fused score of a hybrid search.
    vector_score: the cosine, wherever the search was given a vector. text_score: the BM25, None
    where the words did not find the passage or were not asked.
    """

    passage: Passage
    score: float
    vector_score: float | None = None
    text_score: float | None = None


def cosine_of(hit: Hit) -> float:
    """The hit's cosine, of whatever search that was given a vector."""
    return hit.score if hit.vector_score is None else hit.vector_score


@dataclass(frozen=True, slots=True)
class SourceVersion:
    """The table state an index was built from: the sync cursor.

    table_id names folders: letters, digits, `.`, `_` and `-`, at most 128. Raises InvalidDelta.
    """

    table_id: str
    version: int
    schema_fingerprint: str
    committed_at: datetime

    def __post_init__(self) -> None:
        if not _TABLE_ID.fullmatch(self.table_id):
            raise InvalidDelta(
                f"table id {self.table_id!r} cannot name a folder; use letters, digits, '.', '_' "
                "and '-', at most 128 of them"
            )


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """Which embedder made the vectors. Two indexes mix only if all three are equal."""

    id: str
    weights_sha256: str
    dim: int


@dataclass(frozen=True, slots=True)
class IndexVersion:
    """The generation that answered and the table state behind it.

    sequence: the number of the last change the answer includes; it may be newer than the
    generation, by what the writer still holds in memory.
    """

    index: str
    generation: str
    number: int
    created_at: datetime
    source: SourceVersion
    sequence: int = 0


Base = IndexVersion | None | Literal["any"]
"""What a change was made for: that very state, an index never published, or whatever is live."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far an index is behind its table.

    versions: commits not yet indexed; None where the table was recreated and cannot be counted.
    seconds: age of the oldest commit that is not indexed, 0.0 where there is none.
    """

    versions: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits from exactly one generation, best first; ties are broken by document id and ordinal."""

    hits: tuple[Hit, ...]
    version: IndexVersion


@dataclass(frozen=True, slots=True)
class IndexDelta:
    """What a publish changes: every document in `documents` replaces all it had before.

    documents: DOCUMENT_SCHEMA, unique document_id.
    passages: passage_schema(...), grouped by document in the order of `documents`.
    vectors: float32 (passages, dim), L2-normalised, row i belongs to passage i.
    removed: document ids that are no longer in the table.
    """

    documents: pa.Table
    passages: pa.Table
    vectors: NDArray[np.float32]
    removed: frozenset[str]


def passage_schema(metadata: Mapping[str, MetadataType]) -> pa.Schema:
    """The Arrow schema of the passages of an index with these metadata columns."""
    return _passage_schema(tuple(metadata.items()))


@lru_cache(maxsize=64)
def _passage_schema(metadata: tuple[tuple[str, MetadataType], ...]) -> pa.Schema:
    struct = pa.struct([pa.field(name, ARROW_TYPES[kind]) for name, kind in metadata])
    return pa.schema(
        [
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("ordinal", pa.int32(), nullable=False),
            pa.field("title", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("start", pa.int32(), nullable=False),
            pa.field("end", pa.int32(), nullable=False),
            pa.field("text_hash", pa.string(), nullable=False),
            pa.field("tenant", pa.string()),
            pa.field("allowed_groups", pa.list_(pa.string())),
            pa.field("updated_at", pa.timestamp("us", tz="UTC")),
            pa.field("metadata", struct),
        ]
    )


def empty_delta(
    metadata: Mapping[str, MetadataType], dim: int, *, removed: frozenset[str] = frozenset()
) -> IndexDelta:
    """A change that adds nothing, and takes `removed` out."""
    return IndexDelta(
        documents=DOCUMENT_SCHEMA.empty_table(),
        passages=passage_schema(metadata).empty_table(),
        vectors=np.empty((0, dim), np.float32),
        removed=removed,
    )


def passage_from_row(row: Mapping[str, object]) -> Passage:
    """A Passage from one row of a passages table (Arrow's `to_pylist` form)."""
    values = dict(row)
    groups = values.pop("allowed_groups")
    metadata = values.pop("metadata") or {}
    return Passage(
        **values,  # type: ignore[arg-type]
        allowed_groups=None if groups is None else tuple(groups),  # type: ignore[arg-type]
        metadata={name: _frozen(value) for name, value in metadata.items()},  # type: ignore[attr-defined]
    )


def passages_to_table(
    passages: Sequence[Passage], metadata: Mapping[str, MetadataType]
) -> pa.Table:
    """Passages as an Arrow table of `passage_schema(metadata)`."""
    rows = [
        {
            "document_id": passage.document_id,
            "ordinal": passage.ordinal,
            "title": passage.title,
            "text": passage.text,
            "start": passage.start,
            "end": passage.end,
            "text_hash": passage.text_hash,
            "tenant": passage.tenant,
            "allowed_groups": passage.allowed_groups,
            "updated_at": passage.updated_at,
            "metadata": dict(passage.metadata),
        }
        for passage in passages
    ]
    return pa.Table.from_pylist(rows, schema=passage_schema(metadata))


def _frozen(value: object) -> MetadataValue:
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]
