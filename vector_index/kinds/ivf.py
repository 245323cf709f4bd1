"""FAISS inverted lists: ivf_flat, ivf_sq8 (one byte a dimension) and ivf_rabitq (one bit).

The compressed kinds search their codes for more candidates than asked and score those again with
the original vectors. Codes and lists are memory-mapped on open, and so are the originals.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.errors import IndexCorrupt, TooFewRows
from vector_index.kinds.faiss_index import Selector, in_order, open_index, write_index
from vector_index.kinds.lists import Lists
from vector_index.kinds.products import products_of
from vector_index.kinds.protocol import SegmentVectors, usual_effort
from vector_index.kinds.reach import Reach, measure_reach
from vector_index.kinds.vectors_file import blocks, open_originals, write_vectors

_Found = tuple[NDArray[np.float32], NDArray[np.int64]]
IvfKind = Literal["ivf_flat", "ivf_sq8", "ivf_rabitq"]

# FAISS's guide to choosing an index: 4 to 16 times sqrt(n) lists below a million vectors.
_LISTS_PER_SQRT_ROW = 4
_MAX_LISTS = 65_536
# FAISS warns below 39 training vectors a list (Clustering.min_points_per_centroid).
_ROWS_PER_LIST = 39
_MIN_LISTS = 8
MIN_ROWS = _ROWS_PER_LIST * _MIN_LISTS
# FAISS's default is 256, and k-means takes time in proportion. recall@10 of 100,000 x 384 clustered
# rows: 0.970 with 64, 0.968 with 256.
_TRAINING_ROWS_PER_LIST = 64
_SEED = 20261124

# Lists looked at per query: recall@10 of 0.967 with 16, 0.979 with 32, 0.991 with 64 of the 1264
# lists of 100,000 x 384 rows made as in benchmarks/kinds.py; that script itself has only 32.
_PROBES = 32

# By chance fewer than expected of the rows near a query are allowed: look for so many more.
_ROOM = 1.2

# The drift above which a build trains anew. Measured on the same data: 1.02 for fresh rows of the
# same clusters; 1.05 with a tenth of the rows from unseen clusters, recall@10 as after training
# anew; 1.16 with half of them, recall 0.61, trained anew 0.69; 1.31 with all, 0.39 and 0.85.
RETRAIN_ABOVE_DRIFT = 1.1
# A build that asks for more than this many times the lists trains anew: lists grow too long.
_OUTGROWN = 2
_DRIFT_SAMPLE = 10_000

_FILE = "ivf.json"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What tells the three kinds apart.

    make: an index around a filled coarse quantizer, by (quantizer, dim, nlist). refine:
    candidates scored again per result; 0 where the index's own scores are those of the originals.
    """

    make: Callable[[Any, int, int], Any]
    index_class: type
    refine: int


_IP = faiss.METRIC_INNER_PRODUCT
RECIPES: Mapping[IvfKind, _Recipe] = {
    "ivf_flat": _Recipe(
        lambda quantizer, dim, nlist: faiss.IndexIVFFlat(quantizer, dim, nlist, _IP),
        faiss.IndexIVFFlat,
        refine=0,
    ),
    # Twice the results make up for what a byte a dimension loses.
    "ivf_sq8": _Recipe(
        lambda quantizer, dim, nlist: faiss.IndexIVFScalarQuantizer(
            quantizer, dim, nlist, faiss.ScalarQuantizer.QT_8bit, _IP
        ),
        faiss.IndexIVFScalarQuantizer,
        refine=2,
    ),
    # One bit a dimension: recall@10 of 0.919 with 2 candidates a result, 0.973 with 4, 0.977
    # with 8, 0.979 (that of ivf_flat) with 16, at 0.18, 0.20, 0.22 and 0.28 ms. More bits cost
    # more than more candidates: 2 bits with 4 candidates take 0.31 ms for 0.979.
    "ivf_rabitq": _Recipe(
        lambda quantizer, dim, nlist: faiss.IndexIVFRaBitQFastScan(quantizer, dim, nlist, _IP),
        faiss.IndexIVFRaBitQFastScan,
        refine=8,
    ),
}


@dataclass(frozen=True, slots=True)
class Training:
    """What is remembered of a training.

    mean_distance: of the sample to the nearest centroid. reach: of the rows the index was first
    filled with; None where an earlier version of this code did not measure it.
    """

    mean_distance: float
    reach: Reach | None = None


class IvfVectors:
    """A trained FAISS IVF index and the original vectors it was filled with."""

    def __init__(
        self, kind: IvfKind, index: Any, originals: NDArray[np.float32], training: Training
    ) -> None:
        self.kind: IvfKind = kind
        index.nprobe = _PROBES
        self.index = index
        self.lists = Lists(index)
        self.originals = originals
        self.training = training

    @property
    def count(self) -> int:
        return len(self.originals)

    @property
    def dim(self) -> int:
        return int(self.originals.shape[1])

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        effort: float = 1.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if allowed is None:
            scores, rows = self._scan_all(queries, k, effort)
        else:
            probes = self.probes(effort)
            gap = self.training.reach.gap_for(probes) if self.training.reach else np.inf
            near = self.lists.near(queries, probes, gap)
            if self.lists.should_pick(int(np.count_nonzero(allowed)), near):
                few = np.flatnonzero(allowed)
                return self.lists.scan_picked(queries, self.originals, k, few, near)
            selector = Selector(allowed)
            scores, rows = self.lists.scan_tested(
                queries, self._candidates(k), selector.faiss, near
            )
        if RECIPES[self.kind].refine:
            scores = products_of(queries, self.originals, rows)
        return in_order(scores, rows, k)

    def probes(self, effort: float) -> int:
        """How many lists are looked at, at most, at this effort."""
        return int(min(max(1, round(_PROBES * effort)), self.index.nlist))

    def effort_for(self, k: int, among: float) -> float:
        reach = self.training.reach
        if reach is None:
            return usual_effort(self.count, among)
        return reach.lists_for(min(1.0, _ROOM * k / among)) / _PROBES

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.originals[rows]

    def write(self, folder: Path) -> None:
        write_index(folder, self.index)
        write_vectors(folder, self.originals)
        (folder / _FILE).write_text(json.dumps(asdict(self.training)), encoding="utf-8")

    def _scan_all(self, queries: NDArray[np.float32], k: int, effort: float) -> _Found:
        parameters = None
        if effort != 1:  # else the index's own, 5 us sooner
            parameters = faiss.SearchParametersIVF(nprobe=self.probes(effort))  # type: ignore[call-arg]
        scores, rows = self.index.search(queries, self._candidates(k), params=parameters)
        return scores, rows

    def _candidates(self, k: int) -> int:
        return max(1, min(k * max(RECIPES[self.kind].refine, 1), self.count))


def build_ivf(
    kind: IvfKind, vectors: NDArray[np.float32], *, like: SegmentVectors | None = None
) -> IvfVectors:
    """An index of these vectors, with the coarse quantizer of `like` where that still fits.

    It fits when `like` is of the same kind and dimension, has at least half the lists that
    these rows ask for, and `drift` is at most RETRAIN_ABOVE_DRIFT. Raises TooFewRows when it
    does not and there are fewer than MIN_ROWS to train on.
    """
    is_lent = isinstance(like, IvfVectors) and fits(kind, vectors, like)
    if isinstance(like, IvfVectors) and is_lent:
        index, training = empty_copy(like), like.training
    else:
        index, training = _train(kind, vectors)
    for _, block in blocks(vectors):
        index.add(block)
    built = IvfVectors(kind, index, vectors, training)
    if not is_lent:
        reach = measure_reach(vectors, built.lists.centroids, built.lists.of_row)
        built.training = replace(training, reach=reach)
    return built


def open_ivf(kind: IvfKind, folder: Path) -> IvfVectors:
    """Opens a written index with its lists and its originals memory-mapped."""
    index = open_index(folder, RECIPES[kind].index_class)
    originals = open_originals(folder, index)
    try:
        training = _read_training(folder / _FILE)
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise IndexCorrupt(f"{folder.name}: {_FILE} cannot be read: {exc}") from exc
    return IvfVectors(kind, index, originals, training)


def drift(vectors: NDArray[np.float32], like: IvfVectors) -> float:
    """How far these vectors lie from the centroids of `like`: 1.0 is as its training sample.

    The ratio of the mean Euclidean distance to the nearest centroid, over at most 10,000 rows.
    """
    if not len(vectors):
        return 1.0
    sample = vectors[:: ceil(len(vectors) / _DRIFT_SAMPLE)]
    return _mean_distance(sample, like.index.quantizer) / like.training.mean_distance


def fits(kind: IvfKind, vectors: NDArray[np.float32], like: IvfVectors) -> bool:
    """Whether a build of these vectors may keep the training of `like`."""
    return (
        like.kind == kind
        and like.dim == vectors.shape[1]
        and list_count(len(vectors)) <= _OUTGROWN * like.index.nlist
        and drift(vectors, like) <= RETRAIN_ABOVE_DRIFT
    )


def list_count(rows: int) -> int:
    """How many lists an index over this many rows is given."""
    wanted = round(_LISTS_PER_SQRT_ROW * rows**0.5)
    return int(max(1, min(wanted, rows // _ROWS_PER_LIST, _MAX_LISTS)))


def empty_copy(like: IvfVectors) -> Any:
    """An empty FAISS index, owned by the caller, trained exactly as that of `like`."""
    nlist = like.index.nlist
    quantizer = _quantizer(like.index.quantizer.reconstruct_n(0, nlist))
    index = RECIPES[like.kind].make(quantizer, like.dim, nlist)
    if like.kind == "ivf_sq8":
        ranges = faiss.vector_to_array(like.index.sq.trained)
        faiss.copy_array_to_vector(ranges, index.sq.trained)
    index.is_trained = True
    return index


def _read_training(file: Path) -> Training:
    known = json.loads(file.read_text(encoding="utf-8"))
    if reach := known.get("reach"):
        known["reach"] = Reach(**{name: tuple(values) for name, values in reach.items()})
    return Training(**known)


def _train(kind: IvfKind, vectors: NDArray[np.float32]) -> tuple[Any, Training]:
    if len(vectors) < MIN_ROWS:
        raise TooFewRows(
            f"{kind} needs at least {MIN_ROWS} rows to train on, got {len(vectors)}; "
            "build this segment as 'flat'"
        )
    nlist = list_count(len(vectors))
    sample = _sample(vectors, nlist * _TRAINING_ROWS_PER_LIST)
    clustering = faiss.Kmeans(
        vectors.shape[1],
        nlist,
        niter=10,  # as FAISS does for the coarse quantizer of an IVF
        spherical=True,  # centroids of unit length: the nearest by inner product is the nearest
        seed=_SEED,
        max_points_per_centroid=_TRAINING_ROWS_PER_LIST,
    )
    clustering.train(sample)
    index = RECIPES[kind].make(_quantizer(clustering.centroids), vectors.shape[1], nlist)
    index.train(sample)
    return index, Training(_mean_distance(sample[:_DRIFT_SAMPLE], index.quantizer))


def _sample(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if len(vectors) <= size:
        return vectors
    chosen = np.sort(np.random.default_rng(_SEED).choice(len(vectors), size, replace=False))
    sample = np.empty((size, vectors.shape[1]), np.float32)
    for where, block in blocks(vectors):
        first, last = chosen.searchsorted([where.start, where.stop])
        sample[first:last] = block[chosen[first:last] - where.start]
    return sample


def _mean_distance(vectors: NDArray[np.float32], quantizer: Any) -> float:
    cosines = quantizer.search(np.ascontiguousarray(vectors), 1)[0]
    return float(np.sqrt(np.maximum(2 - 2 * cosines, 0)).mean())


def _quantizer(centroids: Any) -> Any:
    quantizer = faiss.IndexFlatIP(centroids.shape[1])
    quantizer.add(centroids)
    return quantizer
