"""Joining IVF segments by their lists, where that gives what a fresh build would."""

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.kinds.ivf import IvfKind, IvfVectors, empty_copy, fits
from vector_index.kinds.protocol import SegmentVectors

Part = tuple[SegmentVectors, NDArray[np.int64]]


def join_ivf(
    parts: Sequence[Part], kind: IvfKind, vectors: NDArray[np.float32]
) -> IvfVectors | None:
    """The lists of the parts joined by FAISS without assigning or encoding a row again.

    vectors: the kept rows of all parts in order, the originals of the result. None where only a
    build is right: a part of another kind, trained otherwise, or losing rows; or vectors that
    have outgrown the training or drifted from it.
    """
    first = parts[0][0]
    if not isinstance(first, IvfVectors) or not all(_can_join(part, first) for part in parts):
        return None
    if not fits(kind, vectors, first):
        return None
    joined = empty_copy(first)
    for part, _ in parts:
        # merge_from empties its source, and a mapped index must not be written to.
        joined.merge_from(_owned_copy(part), joined.ntotal)
    return IvfVectors(kind, joined, vectors, first.training)


def _can_join(part: Part, first: IvfVectors) -> bool:
    vectors, rows = part
    return (
        isinstance(vectors, IvfVectors)
        and vectors.kind == first.kind
        and np.array_equal(rows, np.arange(vectors.count))
        and _trained(vectors) == _trained(first)
    )


def _trained(vectors: IvfVectors) -> tuple[bytes, bytes]:
    index = vectors.index
    ranges = faiss.vector_to_array(index.sq.trained) if vectors.kind == "ivf_sq8" else np.empty(0)
    return index.quantizer.reconstruct_n(0, index.nlist).tobytes(), ranges.tobytes()


def _owned_copy(vectors: SegmentVectors) -> Any:
    assert isinstance(vectors, IvfVectors)
    return faiss.deserialize_index(faiss.serialize_index(vectors.index))
