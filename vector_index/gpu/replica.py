"""Which kinds have a form on a GPU, and a segment that is scanned there.

| kind              | on the card               | its results beside the segment's          |
|-------------------|---------------------------|-------------------------------------------|
| flat              | GpuIndexFlat              | the same; what is in doubt is asked again |
| ivf_flat, ivf_sq8 | the same lists            | the same, but for how the card rounds     |
| hnsw, hnsw_sq8    | CAGRA, where cuVS is      | those of another graph, in float32        |
| exact             | none: it is the reference |                                           |
| ivf_rabitq        | none: FAISS has none      |                                           |

The segment on the CPU answers whatever the card must not be asked: scans under a mask (FAISS's
own GPU kernels ignore a selector without a word), more rows or lists than the card selects, and
searches the card did not take or failed. Scores are always computed from the originals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vector_index.gpu.protocol import Accelerator, Copy, Found
from vector_index.kinds import KindName, SegmentVectors
from vector_index.kinds.faiss_index import in_order
from vector_index.kinds.ivf import RECIPES as IVF_RECIPES
from vector_index.kinds.ivf import IvfVectors
from vector_index.kinds.products import products_of

# GPU_MAX_SELECTION_K in FAISS's sources, for k and nprobe alike.
_MOST_SELECTED = 2048
# Rows fetched beyond k from an exact copy, to see how far behind those left out are.
_SPARE = 32
# cuVS: one thread block keeps at most 512 nodes, in multiples of 32.
_MOST_NODES = 512
_NODES_STEP = 32
_NODES = 96
# CAGRA starts from a graph of 128 neighbours a row, and keeps 64 of four bytes.
_LEAST_ROWS = 1024
_GRAPH_BYTES = 64 * 4
_FLOAT_BYTES = 4
_ROW_ID_BYTES = 8
# FAISS pads each list on a GPU to whole groups of 32 rows: half a group is wasted on average.
_LIST_PADDING = 16


@dataclass(frozen=True, slots=True)
class Ask:
    """What one scan asks of a copy: `Copy.search`'s k and breadth."""

    k: int
    breadth: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a kind is copied and asked.

    copy: by the accelerator. size_bytes: what the copy takes on the card, an estimate. ask: for k
    rows at an effort, None where that is beyond the card. is_exact: every row is looked at.
    """

    copy: Callable[[Accelerator, SegmentVectors], Copy]
    size_bytes: Callable[[SegmentVectors], int]
    ask: Callable[[SegmentVectors, int, float], Ask | None]
    is_exact: bool = False
    is_graph: bool = False
    least_rows: int = 1


class Searches(Protocol):
    """A device as its replicas see it."""

    def search(
        self, handle: int, queries: NDArray[np.float32], k: int, breadth: int
    ) -> Found | None:
        """As `Copy.search`; None where the device did not answer."""


class Replica:
    """The SegmentVectors of a segment, scanned on a card where that gives what its scan gives."""

    def __init__(
        self, segment: SegmentVectors, recipe: Recipe, device: Searches, handle: int
    ) -> None:
        self.segment = segment
        self._recipe = recipe
        self._device = device
        self._handle = handle

    @property
    def kind(self) -> KindName:
        return self.segment.kind

    @property
    def count(self) -> int:
        return self.segment.count

    @property
    def dim(self) -> int:
        return self.segment.dim

    @property
    def originals(self) -> NDArray[np.float32]:
        return self.segment.originals

    def scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        effort: float = 1.0,
    ) -> Found:
        ask = self._recipe.ask(self.segment, k, effort)
        if allowed is not None or ask is None or not len(queries):
            return self.segment.scan(queries, k, allowed=allowed, effort=effort)
        found = self._device.search(self._handle, queries, ask.k, ask.breadth)
        if found is None:
            return self.segment.scan(queries, k, effort=effort)
        rows = found[1]
        products = products_of(queries, self.originals, rows)
        scores, rows = in_order(products, rows, k)
        if self._recipe.is_exact:
            doubtful = self._are_doubtful(queries, products, k)
            if doubtful.any():
                scores[doubtful], rows[doubtful] = self.segment.scan(queries[doubtful], k)
        return scores, rows

    def effort_for(self, k: int, among: float) -> float:
        return self.segment.effort_for(k, among)

    def reconstruct(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.segment.reconstruct(rows)

    def write(self, folder: Path) -> None:
        self.segment.write(folder)

    def _are_doubtful(
        self, queries: NDArray[np.float32], products: NDArray[np.float32], k: int
    ) -> NDArray[np.bool_]:
        """Which queries a row left out could belong to, bool (n,).

        The card rounds in another order. Either product is within dim x 2^-24 of the true one
        for unit vectors (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), so
        a row left out may be at most four such bounds above the last one fetched.
        """
        fetched = products.shape[1]
        if fetched == self.count:
            return np.zeros(len(queries), np.bool_)
        worst = np.partition(products, fetched - k, axis=1)[:, fetched - k]
        rounding = self.dim * 2.0**-24 * np.linalg.norm(queries, axis=1)
        doubtful: NDArray[np.bool_] = worst - products[:, -1] <= 4 * rounding
        return doubtful


def recipe_for(segment: SegmentVectors, *, has_graph: bool) -> Recipe | None:
    """How this segment goes on a card, None where its kind or size has no form there."""
    recipe = RECIPES.get(segment.kind)
    if recipe is None or segment.count < recipe.least_rows or (recipe.is_graph and not has_graph):
        return None
    return recipe


def _flat_bytes(segment: SegmentVectors) -> int:
    return segment.count * segment.dim * _FLOAT_BYTES


def _lists_bytes(segment: SegmentVectors) -> int:
    index = _ivf(segment).index
    rows = segment.count + _LIST_PADDING * index.nlist
    centroids = index.nlist * segment.dim * _FLOAT_BYTES
    return int(rows * (index.code_size + _ROW_ID_BYTES) + centroids)


def _graph_bytes(segment: SegmentVectors) -> int:
    return _flat_bytes(segment) + segment.count * _GRAPH_BYTES


def _ask_flat(segment: SegmentVectors, k: int, effort: float) -> Ask | None:
    fetch = min(k + _SPARE, segment.count)
    return Ask(fetch, 0) if fetch <= _MOST_SELECTED else None


def _ask_lists(segment: SegmentVectors, k: int, effort: float) -> Ask | None:
    vectors = _ivf(segment)
    probes = min(round(vectors.index.nprobe * effort), vectors.index.nlist)
    fetch = min(k * max(IVF_RECIPES[vectors.kind].refine, 1), segment.count)
    return Ask(fetch, probes) if max(fetch, probes) <= _MOST_SELECTED else None


def _ask_graph(segment: SegmentVectors, k: int, effort: float) -> Ask | None:
    fetch = min(k, segment.count)
    nodes = -(-max(round(_NODES * effort), fetch) // _NODES_STEP) * _NODES_STEP
    return Ask(fetch, nodes) if nodes <= _MOST_NODES else None


def _ivf(segment: SegmentVectors) -> IvfVectors:
    assert isinstance(segment, IvfVectors)
    return segment


_LISTS = Recipe(lambda card, segment: card.lists(_ivf(segment).index), _lists_bytes, _ask_lists)
_GRAPH = Recipe(
    lambda card, segment: card.graph(segment.originals),
    _graph_bytes,
    _ask_graph,
    is_graph=True,
    least_rows=_LEAST_ROWS,
)
RECIPES: Mapping[KindName, Recipe] = {
    "flat": Recipe(
        lambda card, segment: card.flat(segment.originals), _flat_bytes, _ask_flat, is_exact=True
    ),
    "ivf_flat": _LISTS,
    "ivf_sq8": _LISTS,
    "hnsw": _GRAPH,
    "hnsw_sq8": _GRAPH,
}
