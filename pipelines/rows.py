"""Rows of a table made into passages, a batch of them at a time."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.chunking import Chunk, Chunker
from pipelines.errors import BadRow, SchemaMismatch
from pipelines.sources.protocol import ColumnMapping
from pipelines.sources.text import plain_text
from pipelines.values import unreadable
from vector_index.passages import ARROW_TYPES, MetadataType, passage_schema


def passages_of(
    batch: pa.RecordBatch,
    mapping: ColumnMapping,
    chunk: Chunker,
    metadata: dict[str, MetadataType],
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The passages of these documents, row by row, and the row each belongs to, int64.

    With a vector column a document is one passage, whole. Raises BadRow for a value that is
    `values.unreadable`, naming the document.
    """
    _check_readable(batch, mapping.key)
    cut = _whole if mapping.vector else chunk
    texts = batch.column(mapping.text).to_pylist()
    pieces = [cut(plain_text(text or "", mapping.text_format)) for text in texts]
    counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
    owners = np.repeat(np.arange(len(pieces)), counts)
    flat = [piece for some in pieces for piece in some]
    rows = _repeated(batch, owners, mapping, metadata)
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


def _repeated(
    batch: pa.RecordBatch,
    owners: NDArray[np.int64],
    mapping: ColumnMapping,
    metadata: dict[str, MetadataType],
) -> pa.RecordBatch:
    """Each passage's row, with the columns that passages keep.

    Without the text: the pieces stand in for it, and a book of 10 MB in 20,000 passages would be
    copied 20,000 times, past what an Arrow array can hold.
    """
    kept = (mapping.key, mapping.title, mapping.tenant, mapping.groups, mapping.updated_at)
    names = dict.fromkeys([name for name in kept if name is not None] + list(metadata))
    return batch.select(list(names)).take(pa.array(owners))


def _check_readable(batch: pa.RecordBatch, key: str) -> None:
    for row, _, detail in unreadable(batch):
        raise BadRow(f"document {batch.column(key)[row].as_py()!r}: {detail}")


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
