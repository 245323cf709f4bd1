"""Bounds on what reaches a scan: FAISS aborts, casts or answers -1 where these raise."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.errors import IndexMoved, InvalidDelta, InvalidQuery
from vector_index.kinds.vectors_file import blocks
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Base,
    IndexDelta,
    IndexVersion,
    passage_schema,
)
from vector_index.protocol import MAX_K

# What the length of a stored norm may differ from 1 by.
_NORM_TOLERANCE = 1e-3


def check_k(k: int) -> None:
    """Raises InvalidQuery unless 1 <= k <= MAX_K."""
    if not 1 <= k <= MAX_K:
        raise InvalidQuery(f"k is {k}; it must be between 1 and {MAX_K}", field="k")


def check_limit(limit: int) -> None:
    """Raises InvalidQuery unless 1 <= limit <= MAX_K."""
    if not 1 <= limit <= MAX_K:
        raise InvalidQuery(f"limit is {limit}; it must be between 1 and {MAX_K}", field="limit")


def check_queries(queries: NDArray[np.float32], dim: int) -> None:
    """Raises InvalidQuery unless the queries are finite float32 (n, dim)."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise InvalidQuery(
            f"query vectors have shape {queries.shape}, the index has dimension {dim}",
            field="vector",
        )
    if queries.dtype != np.float32:
        raise InvalidQuery(f"query vector is {queries.dtype}, not float32", field="vector")
    if not np.isfinite(queries).all():
        raise InvalidQuery("query vector holds NaN or infinity", field="vector")


def check_delta(delta: IndexDelta, settings: IndexSettings) -> None:
    """Raises InvalidDelta unless documents, passages and vectors fit together and this index."""
    _check_schema("documents", delta.documents, DOCUMENT_SCHEMA)
    _check_schema("passages", delta.passages, passage_schema(settings.metadata_columns))
    ids = delta.documents["document_id"].to_pylist()
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InvalidDelta(f"document {twice!r} appears twice in the change; keep one of them")
    _check_vectors(delta.vectors, delta.passages.num_rows, settings.embedder.dim)
    position = {document_id: number for number, document_id in enumerate(ids)}
    runs = pc.run_end_encode(delta.passages["document_id"].combine_chunks()).values
    order = [position.get(owner, -1) for owner in runs.to_pylist()]
    if order and (order[0] < 0 or any(a >= b for a, b in pairwise(order))):
        raise InvalidDelta("passages must be grouped by document, in the order of documents")
    check_ids(delta.removed)
    if overlap := delta.removed & position.keys():
        raise InvalidDelta(f"document {min(overlap)!r} is both changed and removed")


def check_base(live: IndexVersion | None, base: Base, name: str) -> None:
    """Raises IndexMoved unless a change made for `base` may be made to what is live."""
    if base == "any" or base == live:
        return
    was, is_now = (
        "nothing" if version is None else f"generation {version.generation}"
        for version in (base, live)
    )
    raise IndexMoved(
        f"the change was made for {was} of index {name!r}, and {is_now} is live: somebody else "
        f"published; sync again"
    )


def check_ids(document_ids: Iterable[object]) -> None:
    """Raises InvalidDelta unless every document id is a string that UTF-8 can say."""
    if isinstance(document_ids, str):  # which is a collection of strings too
        raise InvalidDelta(f"a collection of document ids is expected, got only {document_ids!r}")
    for document_id in document_ids:
        if not isinstance(document_id, str):
            raise InvalidDelta(f"a document id is a string, got {document_id!r}")
        try:
            document_id.encode()
        except UnicodeEncodeError as exc:
            raise InvalidDelta(f"the document id {document_id!r} is not valid Unicode") from exc


def _check_schema(what: str, table: pa.Table, schema: pa.Schema) -> None:
    if not table.schema.equals(schema):
        raise InvalidDelta(f"{what} have the schema {table.schema}; this index takes {schema}")
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise InvalidDelta(f"{what} have a null {field.name}")


def _check_vectors(vectors: NDArray[np.float32], rows: int, dim: int) -> None:
    if vectors.shape != (rows, dim):
        raise InvalidDelta(
            f"{rows} passages of dimension {dim} need vectors of that shape, got {vectors.shape}"
        )
    if vectors.dtype != np.float32:
        raise InvalidDelta(f"vectors must be finite float32, got {vectors.dtype}")
    squares = np.empty(rows, np.float32)
    for where, block in blocks(vectors):
        # einsum makes no copy; NaN and infinity reach the sums.
        np.einsum("ij,ij->i", block, block, out=squares[where])
    if not np.isfinite(squares).all():
        raise InvalidDelta(
            f"vectors must be finite float32, vector {int(np.argmin(np.isfinite(squares)))} is not"
        )
    off = np.abs(np.sqrt(squares) - 1)
    if len(off) and off.max() > _NORM_TOLERANCE:
        worst = int(np.argmax(off))
        raise InvalidDelta(
            f"vector {worst} has length {np.sqrt(squares[worst]):.4g}; it is not L2-normalised: "
            f"divide it by its length"
        )
