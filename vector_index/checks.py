"""Bounds on what reaches a scan: FAISS aborts, casts or answers -1 where these raise."""

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import InvalidDelta, InvalidQuery
from vector_index.passages import IndexDelta
from vector_index.protocol import MAX_K


def check_k(k: int) -> None:
    """Raises InvalidQuery unless 1 <= k <= MAX_K."""
    if not 1 <= k <= MAX_K:
        raise InvalidQuery(f"k is {k}; it must be between 1 and {MAX_K}", field="k")


def check_query(vector: NDArray[np.float32], k: int, dim: int) -> None:
    """Raises InvalidQuery unless the vector is finite float32 (dim,) and 1 <= k <= MAX_K."""
    check_k(k)
    if vector.shape != (dim,):
        raise InvalidQuery(
            f"query vector has shape {vector.shape}, the index has dimension {dim}", field="vector"
        )
    if vector.dtype != np.float32:
        raise InvalidQuery(f"query vector is {vector.dtype}, not float32", field="vector")
    if not np.isfinite(vector).all():
        raise InvalidQuery("query vector holds NaN or infinity", field="vector")


def check_delta(delta: IndexDelta, dim: int) -> None:
    """Raises InvalidDelta unless documents, passages and vectors fit together."""
    ids = delta.documents["document_id"].to_pylist()
    if len(set(ids)) != len(ids):
        raise InvalidDelta("a document appears twice in the change")
    if delta.vectors.shape != (delta.passages.num_rows, dim):
        raise InvalidDelta(
            f"{delta.passages.num_rows} passages of dimension {dim} need vectors of that shape, "
            f"got {delta.vectors.shape}"
        )
    if delta.vectors.dtype != np.float32 or not np.isfinite(delta.vectors).all():
        raise InvalidDelta("vectors must be finite float32")
    norms = np.linalg.norm(delta.vectors, axis=1)
    if len(norms) and not np.allclose(norms, 1.0, atol=1e-3):
        raise InvalidDelta(f"vector {int(np.argmax(abs(norms - 1)))} is not L2-normalised")
    owners = list(dict.fromkeys(delta.passages["document_id"].to_pylist()))
    position = {document_id: number for number, document_id in enumerate(ids)}
    order = [position.get(owner, -1) for owner in owners]
    if order != sorted(order) or -1 in order:
        raise InvalidDelta("passages must be grouped by document, in the order of documents")
    if overlap := delta.removed & position.keys():
        raise InvalidDelta(f"document {min(overlap)!r} is both changed and removed")
