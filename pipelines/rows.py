"""Rows of a table made into passages, a batch of them at a time."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.chunking import Chunk, Chunker
from pipelines.errors import BadRow, SchemaMismatch
from pipelines.sources.protocol import ColumnMapping
from vector_index.passages import ARROW_TYPES, MetadataType, passage_schema

_SHOWN_KEYS = 3


def passages_of(
    batch: pa.RecordBatch,
    mapping: ColumnMapping,
    chunk: Chunker,
    metadata: dict[str, MetadataType],
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The passages of these documents, row by row, and the row each belongs to, int64.

    With a vector column a document is one passage, whole. Raises BadRow for text that is not
    UTF-8, naming the document.
    """
    cut = _whole if mapping.vector else chunk
    pieces = [cut(text or "") for text in _texts(batch, mapping)]
    counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
    owners = np.repeat(np.arange(len(pieces)), counts)
    flat = [piece for some in pieces for piece in some]
    rows = batch.take(pa.array(owners))
    columns = {
        "document_id": _cast(rows, mapping.key, "string"),
        "ordinal": pa.array(np.arange(len(owners)) - np.repeat(_starts(counts), counts)),
        "title": _cast(rows, mapping.title, "string").fill_null(""),
        "text": pa.array([piece.text for piece in flat], pa.string()),
        "start": pa.array([piece.start for piece in flat], pa.int32()),
        "end": pa.array([piece.end for piece in flat], pa.int32()),
        "text_hash": pa.array([piece.text_hash for piece in flat], pa.string()),
        "tenant": _cast(rows, mapping.tenant, "string"),
        "allowed_groups": _cast(rows, mapping.groups, "strings"),
        "updated_at": _cast(rows, mapping.updated_at, "timestamp"),
        "metadata": _metadata(rows, metadata),
    }
    schema = passage_schema(metadata)
    arrays = [columns[field.name].cast(field.type) for field in schema]
    return pa.table(arrays, schema=schema), owners


def vectors_in(batch: pa.RecordBatch, mapping: ColumnMapping, dim: int) -> NDArray[np.float32]:
    """The vector column as float32 (rows, dim), L2-normalised. Raises BadRow for one that is not.

    A null, another length, a value that is not finite and a vector of zeros are all refused.
    """
    assert mapping.vector is not None
    column = batch.column(mapping.vector).cast(pa.large_list(pa.float32()), safe=False)
    lengths = np.diff(column.offsets.to_numpy())
    _refuse(batch, mapping, lengths != dim, f"a vector that has not the {dim} values of the index")
    flat = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    norms = np.sqrt(np.einsum("ij,ij->i", flat, flat))
    _refuse(batch, mapping, ~(np.isfinite(norms) & (norms > 0)), "a vector that has no direction")
    vectors: NDArray[np.float32] = flat / norms[:, None]
    return vectors


def _refuse(
    batch: pa.RecordBatch, mapping: ColumnMapping, is_bad: NDArray[np.bool_], why: str
) -> None:
    bad = np.flatnonzero(is_bad)
    if len(bad):
        keys = batch.column(mapping.key).take(pa.array(bad[:_SHOWN_KEYS])).to_pylist()
        raise BadRow(f"{len(bad)} documents have {why}, such as {', '.join(map(repr, keys))}")


def _texts(batch: pa.RecordBatch, mapping: ColumnMapping) -> list[str | None]:
    column = batch.column(mapping.text)
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        for key, text in zip(batch.column(mapping.key).to_pylist(), column, strict=True):
            try:
                text.as_py()
            except UnicodeDecodeError as exc:
                raise BadRow(f"the text of document {key!r} is not UTF-8 ({exc})") from exc
        raise
    return texts


def _whole(text: str) -> list[Chunk]:
    return [Chunk(text, 0, len(text))]


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(counts) - counts


def _cast(rows: pa.RecordBatch, column: str | None, kind: MetadataType) -> pa.Array:
    if column is None:
        return pa.nulls(rows.num_rows, ARROW_TYPES[kind])
    values = rows.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        # Not safe: nanoseconds are cut to the microseconds that an index keeps.
        return values.cast(ARROW_TYPES[kind], safe=False)
    except pa.ArrowException as exc:
        raise SchemaMismatch(f"column {column!r} cannot be read as {kind}: {exc}") from exc


def _metadata(rows: pa.RecordBatch, metadata: dict[str, MetadataType]) -> pa.Array:
    fields = [pa.field(name, ARROW_TYPES[kind]) for name, kind in metadata.items()]
    if not fields:
        return pa.array([{}] * rows.num_rows, pa.struct([]))
    values = [_cast(rows, name, kind) for name, kind in metadata.items()]
    return pa.StructArray.from_arrays(values, fields=fields)
