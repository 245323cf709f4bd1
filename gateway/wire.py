"""What goes over the wire at /query and /indexes/{name}/search."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from feature_store.features import Feature, Value
from rag_chain.answer import Answer
from vector_index.passages import Hit, IndexVersion, Lag, MetadataValue
from vector_index.protocol import MAX_K
from vector_index.query import QueryType

_K = Annotated[int, Field(ge=1, le=MAX_K, strict=True)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class QueryRequest(_Form):
    """A question. `filter` is the JSON form of vector_index.filters."""

    question: str = Field(examples=["How do I read a CSV file into dictionaries?"])
    chain: str | None = Field(None, description="null: the server's first.", examples=["docs"])
    k: _K | None = Field(None, description="Passages to retrieve; null: the server's.")
    filter: dict[str, object] | None = Field(None, examples=[{"kind": ["class", "module"]}])
    user: str | None = Field(
        None, description="Key of the user view; features of the user word the answer."
    )
    stream: bool = Field(False, description="Answer as server-sent events.")
    generate: bool = Field(True, description="False: passages and prompt only, no model.")


class SearchRequest(_Form):
    """A text to find the nearest passages of."""

    text: str = Field(examples=["read a CSV file"])
    query_type: QueryType = Field(
        "ann", description="By vectors, by words (BM25), or both, fused by reciprocal rank."
    )
    k: _K = 10
    filter: dict[str, object] | None = Field(None, examples=[{"kind": "function"}])


class VersionForm(_Form):
    """The index generation and table version behind an answer."""

    index: str
    generation: str
    created_at: datetime
    table_id: str
    table_version: int

    @classmethod
    def of(cls, version: IndexVersion) -> "VersionForm":
        return cls(
            index=version.index,
            generation=version.generation,
            created_at=version.created_at,
            table_id=version.source.table_id,
            table_version=version.source.version,
        )


class LagForm(_Form):
    """How far behind the table; versions is null where it was recreated."""

    versions: int | None
    seconds: float


class SyncForm(_Form):
    """The syncs of an index, run by this server or by another process on its machine.

    phase: idle, syncing, failing, or stopped where none runs. pending_rows: documents that the one
    under way has yet to do. last_error: of the newest
    attempt that failed; failures counts those in a row, 0 after a success. rows_per_s, duration_s:
    of the last one that changed anything.
    """

    phase: str
    pending_rows: int | None
    failures: int
    last_error: str | None
    last_error_at: datetime | None
    rows_per_s: float | None
    duration_s: float | None


class ProofForm(_Form):
    """What the last comparison of the index with its table found."""

    at: datetime
    is_equal: bool
    missing: int
    extra: int
    changed: int


class DriftForm(_Form):
    """The vectors of the newest generation that wrote any, against all written before them.

    mean_cosine: of the two mean directions, 1 where nothing drifts. spread, index_spread: 0 for
    vectors all alike, 1 for all directions alike. near_zero_share: of vectors without a direction.
    Null where there is nothing to compare with.
    """

    generation: str
    vectors: int
    mean_cosine: float | None
    spread: float | None
    index_spread: float | None
    near_zero_share: float | None


class IndexForm(_Form):
    """An index as this server has it. problem: why it cannot be searched.

    lag: null where it cannot be measured. pending_rows: touched in the table and not indexed yet;
    null where the table keeps no record. sync: null where there never was one. proof: null before
    the first scheduled one. drift: null before the first vectors.
    """

    name: str
    documents: int
    passages: int
    version: VersionForm | None
    lag: LagForm | None
    problem: str | None
    sync: SyncForm | None
    proof: ProofForm | None = None
    pending_rows: int | None = None
    drift: DriftForm | None = None


class CitationForm(_Form):
    """A passage that was in the prompt; see rag_chain.answer.Citation."""

    marker: int
    document_id: str
    title: str
    start: int
    end: int
    score: float
    support: float
    origin: Literal["model", "attributed"]


class UsageForm(_Form):
    """Tokens of the model."""

    prompt_tokens: int
    completion_tokens: int


class HitForm(_Form):
    """A passage. score: cosine, BM25, or the fused one of a hybrid search, which has both legs'."""

    document_id: str
    title: str
    text: str
    start: int
    end: int
    score: float
    vector_score: float | None
    text_score: float | None
    metadata: dict[str, MetadataValue]

    @classmethod
    def of(cls, hit: Hit) -> "HitForm":
        passage = hit.passage
        return cls(
            document_id=passage.document_id,
            title=passage.title,
            text=passage.text,
            start=passage.start,
            end=passage.end,
            score=hit.score,
            vector_score=hit.vector_score,
            text_score=hit.text_score,
            metadata=dict(passage.metadata),
        )


class FeatureForm(_Form):
    """A fact about the user or a document in the prompt; a stale one changed nothing."""

    view: str
    key: str
    name: str
    value: Value
    age_s: float | None
    is_stale: bool

    @classmethod
    def of(cls, feature: Feature) -> "FeatureForm":
        return cls(
            view=feature.view,
            key=feature.key,
            name=feature.name,
            value=feature.value,
            age_s=feature.age_s,
            is_stale=feature.is_stale,
        )


class QueryResponse(_Form):
    """An answer and everything it was built from."""

    id: str
    chain: str
    answer: str
    is_known: bool
    citations: list[CitationForm]
    version: VersionForm
    lag: LagForm | None
    features: list[FeatureForm]
    model: str
    usage: UsageForm
    timings_s: dict[str, float]

    @classmethod
    def of(cls, answer: Answer) -> "QueryResponse":
        return cls(
            id=answer.id,
            chain=answer.chain,
            answer=answer.text,
            is_known=answer.is_known,
            citations=[
                CitationForm.model_validate(citation, from_attributes=True)
                for citation in answer.citations
            ],
            version=VersionForm.of(answer.version),
            lag=lag_form(answer.lag),
            features=[FeatureForm.of(feature) for feature in answer.features],
            model=answer.model,
            usage=UsageForm.model_validate(answer.usage, from_attributes=True),
            timings_s=dict(answer.timings_s),
        )


class PreparedResponse(_Form):
    """A question with `generate: false`: the passages and messages a model would have got."""

    passages: list[HitForm]
    messages: list[dict[str, str]]
    version: VersionForm
    features: list[FeatureForm]
    timings_s: dict[str, float]


class SearchResponse(_Form):
    """Hits, best first, all from one generation."""

    hits: list[HitForm]
    version: VersionForm


def lag_form(lag: Lag | None) -> LagForm | None:
    """The wire form of a lag, null where nobody measured it."""
    return None if lag is None else LagForm(versions=lag.versions, seconds=lag.seconds)
