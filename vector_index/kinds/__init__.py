"""How the vectors of one segment are stored and scanned; one file per family of kinds.

A kind is chosen by name from KINDS. `exact` is the NumPy reference, `flat` scans exactly in
FAISS, the rest are approximate. Nothing here sets a global of FAISS or OpenMP: whoever serves
sets the number of threads.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vector_index.kinds import exact, flat, hnsw, ivf, merging
from vector_index.kinds.choice import Choice, choose_kind
from vector_index.kinds.ivf import RETRAIN_ABOVE_DRIFT
from vector_index.kinds.protocol import Kind, KindName, SegmentVectors

__all__ = [
    "KINDS",
    "RETRAIN_ABOVE_DRIFT",
    "Choice",
    "Kind",
    "KindName",
    "SegmentVectors",
    "choose_kind",
    "drift",
    "merge_vectors",
    "min_rows",
]

KINDS: Mapping[KindName, Kind] = {
    "exact": Kind(exact.build_exact, exact.open_exact),
    "flat": Kind(flat.build_flat, flat.open_flat),
    "ivf_flat": Kind(
        partial(ivf.build_ivf, "ivf_flat"), partial(ivf.open_ivf, "ivf_flat"), ivf.MIN_ROWS
    ),
    "ivf_sq8": Kind(
        partial(ivf.build_ivf, "ivf_sq8"), partial(ivf.open_ivf, "ivf_sq8"), ivf.MIN_ROWS
    ),
    "ivf_rabitq": Kind(
        partial(ivf.build_ivf, "ivf_rabitq"), partial(ivf.open_ivf, "ivf_rabitq"), ivf.MIN_ROWS
    ),
    "hnsw": Kind(hnsw.build_hnsw, hnsw.open_hnsw),
    "hnsw_sq8": Kind(hnsw.build_hnsw_sq8, hnsw.open_hnsw_sq8, hnsw.MIN_ROWS_SQ8),
}


def min_rows(kind: KindName) -> int:
    """The fewest rows the kind can be built from; with fewer, `build` raises TooFewRows."""
    return KINDS[kind].min_rows


def drift(vectors: NDArray[np.float32], like: SegmentVectors) -> float:
    """How much farther float32 (n, dim) lies from the centroids of `like` than its training did.

    1.0 means no farther; above RETRAIN_ABOVE_DRIFT a build trains anew. Kinds without centroids
    always say 1.0.
    """
    return ivf.drift(vectors, like) if isinstance(like, ivf.IvfVectors) else 1.0


def merge_vectors(
    parts: Sequence[tuple[SegmentVectors, NDArray[np.int64]]], kind: KindName
) -> SegmentVectors:
    """The kept rows of each part, one part after the other, as one segment of this kind.

    parts: at least one; rows: int64, the kept rows of that part in their new order. IVF parts
    that share their training are joined; anything else is built from the original vectors, with
    the training of the largest part where it still fits. Raises TooFewRows as `build`.
    """
    if kind == "flat":
        return flat.join_flat(parts)
    vectors = np.empty((sum(len(rows) for _, rows in parts), parts[0][0].dim), np.float32)
    flat.gather(parts, vectors)
    if kind in ("ivf_flat", "ivf_sq8", "ivf_rabitq"):
        joined = merging.join_ivf(parts, kind, vectors)
        if joined is not None:
            return joined
    largest = max((part for part, _ in parts), key=lambda part: part.count)
    return KINDS[kind].build(vectors, like=largest)
