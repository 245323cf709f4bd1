"""Documents that somebody hands over, without a table: cut, embedded, searchable at once."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from llm_endpoint.errors import ContextOverflow, InvalidText
from llm_endpoint.text import check_texts
from pipelines.chunking import Chunker
from pipelines.errors import BadDocument, BadVectors
from pipelines.rows import passages_of
from pipelines.sources.hashing import row_hashes
from pipelines.sources.protocol import ColumnMapping
from pipelines.sources.vectors import vectors_of
from vector_index.held import joined
from vector_index.passages import (
    ARROW_TYPES,
    DOCUMENT_SCHEMA,
    IndexDelta,
    IndexVersion,
    MetadataType,
)
from vector_index.writer import IndexWriter

RESERVED = ("id", "title", "text", "vector", "tenant", "groups", "updated_at")
"""What no metadata column may be called."""

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Document:
    """A document to write. vector: of the whole text, which is then one passage; None embeds it.

    metadata: by the names of the index's columns; timestamps and dates may be ISO 8601 text.
    """

    id: str
    text: str
    title: str = ""
    vector: Sequence[float] | None = None
    tenant: str | None = None
    groups: tuple[str, ...] | None = None
    updated_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)


class DirectIndex:
    """Writes documents through the one writer of an index; threads may share it."""

    def __init__(
        self, writer: IndexWriter, embedder: Embedder, chunk: Chunker, *, max_text_bytes: int
    ) -> None:
        self._writer = writer
        self._embedder = embedder
        self._chunk = chunk
        self._max_text_bytes = max_text_bytes
        # Two changes of one document count in the order in which they began.
        self._lock = threading.Lock()

    def upsert(self, documents: Sequence[Document]) -> IndexVersion:
        """All of these searchable at once, each in place of what it was; on the disk by then.

        Raises BadDocument naming the first that cannot be taken, and then none of them is; and
        what the embedder and the writer raise, IndexFull where they are too many at once.
        """
        self._check(documents)
        with self._lock:
            texts = [one for one in documents if one.vector is None]
            given = [one for one in documents if one.vector is not None]
            deltas = [self._delta(some) for some in (texts, given) if some]
            return self._writer.upsert(joined(deltas))

    def delete(self, document_ids: Collection[str]) -> IndexVersion:
        """Takes these out at once; ids that are not there change nothing."""
        with self._lock:
            return self._writer.delete(document_ids)

    def _check(self, documents: Sequence[Document]) -> None:
        seen: set[str] = set()
        settings = self._writer.settings
        for one in documents:
            if one.id in seen:
                raise BadDocument(f"document {one.id!r} stands twice in this request", "id")
            seen.add(one.id)
            _check_texts(one, self._max_text_bytes)
            for name, is_used in (("tenant", settings.has_tenant), ("groups", settings.has_groups)):
                if bool(getattr(one, name)) != is_used:
                    what = "needs" if is_used else "has"
                    does = "restricts" if is_used else "does not restrict"
                    raise BadDocument(
                        f"document {one.id!r} {what} {name}: the index {does} by {name}", name
                    )
            if unknown := one.metadata.keys() - settings.metadata_columns.keys():
                known = ", ".join(settings.metadata_columns) or "none"
                raise BadDocument(
                    f"document {one.id!r} has metadata {min(unknown)!r}; the index has: {known}",
                    "metadata",
                )

    def _delta(self, documents: Sequence[Document]) -> IndexDelta:
        """Of documents that all have a vector, or all have none."""
        has_vectors = documents[0].vector is not None
        columns = dict(self._writer.metadata_columns)
        mapping = ColumnMapping(
            "id", "title", "text", tuple(columns), "tenant", "groups", "updated_at",
            vector="vector" if has_vectors else None,
        )  # fmt: skip
        batch = _batch(documents, columns)
        passages, owners = passages_of(batch, mapping, self._chunk, columns)
        given = self._given(batch, documents) if has_vectors else None
        vectors = self._embedded(passages) if given is None else given[owners]
        ids = [one.id for one in documents]
        rows = [pa.array(column, pa.string()) for column in (ids, row_hashes(batch, mapping))]
        return IndexDelta(pa.table(rows, schema=DOCUMENT_SCHEMA), passages, vectors, frozenset())

    def _given(self, batch: pa.RecordBatch, documents: Sequence[Document]) -> NDArray[np.float32]:
        dim = self._embedder.info.dim
        try:
            return vectors_of(batch, "vector", dim)
        except BadVectors as exc:
            one = documents[exc.rows[0]]
            raise BadDocument(
                f"the vector of document {one.id!r} must be {dim} finite numbers that are not all "
                f"zero; it has {len(one.vector or ())}",
                "vector",
            ) from exc

    def _embedded(self, passages: pa.Table) -> NDArray[np.float32]:
        """What is stored of the same text is not embedded again."""
        hashes = passages["text_hash"].to_pylist()
        known = self._writer.vectors_of(set(hashes))
        fresh = {
            one: text
            for one, text in zip(hashes, passages["text"].to_pylist(), strict=True)
            if one not in known
        }
        if fresh:
            try:
                made = self._embedder.embed_passages(list(fresh.values()))
            except (InvalidText, ContextOverflow) as exc:
                raise BadDocument(f"a text cannot be embedded: {exc}", "text") from exc
            known.update(zip(fresh, made, strict=True))
        vectors = [known[one] for one in hashes]
        return np.stack(vectors) if vectors else np.empty((0, self._embedder.info.dim), np.float32)


def _check_texts(one: Document, max_bytes: int) -> None:
    named = {"id": one.id, "title": one.title, "text": one.text, "tenant": one.tenant or ""}
    for name, text in named.items():
        try:
            check_texts([text])
        except InvalidText as exc:
            raise BadDocument(f"the {name} of document {one.id!r}: {exc}", name) from exc
    if not one.id:
        raise BadDocument("a document's id is empty", "id")
    if (size := len(one.text.encode())) > max_bytes:
        raise BadDocument(
            f"the text of document {one.id!r} has {size:,} bytes of at most {max_bytes:,}", "text"
        )


def _batch(documents: Sequence[Document], columns: Mapping[str, MetadataType]) -> pa.RecordBatch:
    kinds: dict[str, MetadataType] = {
        "id": "string", "title": "string", "text": "string", "tenant": "string",
        "groups": "strings", "updated_at": "timestamp",
    }  # fmt: skip
    arrays = {
        name: pa.array(
            [_value(one, name, getattr(one, name), kind) for one in documents], ARROW_TYPES[kind]
        )
        for name, kind in kinds.items()
    }
    for name, kind in columns.items():
        values = [_value(one, name, one.metadata.get(name), kind) for one in documents]
        arrays[name] = pa.array(values, ARROW_TYPES[kind])
    if documents[0].vector is not None:
        vectors = [list(one.vector or ()) for one in documents]
        arrays["vector"] = pa.array(vectors, pa.list_(pa.float64()))
    return pa.record_batch(arrays)


def _value(one: Document, name: str, value: object, kind: MetadataType) -> object:
    """The value as Arrow takes it. Raises BadDocument for one of another kind."""
    try:
        if value is None or _is_of(value, kind):
            return _in_utc(value)
        if kind == "timestamp" and isinstance(value, str):
            return _in_utc(datetime.fromisoformat(value))
        if kind == "date" and isinstance(value, str):
            return date.fromisoformat(value)
    except ValueError:
        pass
    shown = repr(value)
    wanted = {"strings": "a list of strings", "int": "a 64-bit int"}.get(kind, f"a {kind}")
    raise BadDocument(
        f"{name!r} of document {one.id!r} must be {wanted}, it is "
        f"{shown if len(shown) <= 80 else shown[:80] + '…'}",
        name if name in RESERVED else f"metadata.{name}",
    )


def _is_of(value: object, kind: MetadataType) -> bool:
    if kind in ("string", "strings"):
        many = value if isinstance(value, list | tuple) else [value]
        is_one = isinstance(value, str)
        return is_one == (kind == "string") and all(map(_is_text, many))
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    if kind == "int":
        return isinstance(value, int) and value in _INT64
    if kind == "float":
        return isinstance(value, int | float) and abs(value) < float("inf")
    if kind == "timestamp":
        return isinstance(value, datetime)
    return isinstance(value, date) and not isinstance(value, datetime)


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_utc(value: object) -> object:
    """A time in UTC, which one without a zone is taken to be in already.

    Arrow is not left to convert zones: once pandera 0.35 is imported, which a quality rule of any
    index does, pyarrow 26 keeps the time of day and drops the zone.
    """
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value
