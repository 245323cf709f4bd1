"""The inverted lists of an IVF index: which are near a query, and which rows are in which."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.kinds.faiss_index import in_order
from vector_index.kinds.products import best_rows

_Found = tuple[NDArray[np.float32], NDArray[np.int64]]

# What filtering costs besides scoring, ns: finding the allowed rows, per row of the segment, and
# picking those in the near lists, per allowed row; against testing a row of these lists in FAISS.
# 1,000,000 x 384 sq8, one query, ms: 5% allowed 1.6 picked, 0.9 tested; 2% 1.0 and 1.3;
# 1% 0.75 and 1.4.
_FIND_NS = 0.3
_PICK_NS = 8.0
_TEST_NS = 6.5


@dataclass(frozen=True, slots=True)
class Near:
    """The lists near each query. products: float32 (n, nlist); is_near: bool (n, nlist)."""

    products: NDArray[np.float32]
    is_near: NDArray[np.bool_]

    @property
    def mean(self) -> float:
        """How many lists are near a query on average."""
        return np.count_nonzero(self.is_near) / len(self.is_near)

    def ranked(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The near lists of each query, best first, and their products, (n, most); -1 for none."""
        most = int(np.count_nonzero(self.is_near, axis=1).max())
        lists = np.full((len(self.is_near), most), -1, np.int64)
        products = np.zeros(lists.shape, np.float32)
        for line, is_near in enumerate(self.is_near):
            numbers = np.flatnonzero(is_near)
            numbers = numbers[np.argsort(-self.products[line, numbers])]
            lists[line, : len(numbers)] = numbers
            products[line, : len(numbers)] = self.products[line, numbers]
        return lists, products


class Lists:
    """Of one index, whose rows are numbered from 0 and which nobody adds to."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @cached_property
    def of_row(self) -> NDArray[np.uint16]:
        """The list of each row, uint16 (count,): 2 bytes a row of memory once a filter asks."""
        lists = np.zeros(self._index.ntotal, np.uint16)
        inverted = self._index.invlists
        for number in range(self._index.nlist):
            if size := inverted.list_size(number):
                lists[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
        return lists

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """The centroid of each list, float32 (nlist, dim), copied.

        In the mapped file they lie at an odd address, from where NumPy copies them at every use.
        """
        centroids: NDArray[np.float32] = self._index.quantizer.reconstruct_n(0, self._index.nlist)
        return centroids

    def near(self, queries: NDArray[np.float32], most: int, gap: float) -> Near:
        """Of the `most` lists nearest to each query those within `gap` of its best one."""
        products = queries @ self.centroids.T
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        is_near = products >= products.max(axis=1, keepdims=True) - gap * lengths
        many = np.flatnonzero(np.count_nonzero(is_near, axis=1) > most)
        if len(many):
            cut = products.shape[1] - most
            is_near[many] &= products[many] >= np.partition(products[many], cut)[:, cut, np.newaxis]
        return Near(products, is_near)

    def should_pick(self, allowed: int, near: Near) -> bool:
        """Whether picking the allowed rows in near lists is faster than testing every row there."""
        count: int = self._index.ntotal
        tested: float = count * near.mean / self._index.nlist
        return _FIND_NS * count + _PICK_NS * allowed < _TEST_NS * tested

    def scan_picked(
        self,
        queries: NDArray[np.float32],
        originals: NDArray[np.float32],
        k: int,
        rows: NDArray[np.int64],
        near: Near,
    ) -> _Found:
        """The exact best of those of these rows, int64 (m,) ascending, that are in near lists."""
        lists = self.of_row[rows]
        found = []
        for number, is_near in enumerate(near.is_near):
            query, picked = queries[number : number + 1], rows[is_near[lists]]
            found.append(in_order(*best_rows(query, originals, k, picked), k))
        scores, best = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(best)

    def scan_tested(
        self, queries: NDArray[np.float32], k: int, selector: Any, near: Near
    ) -> _Found:
        """FAISS's best k of the rows in near lists that the selector lets through, -1 for none."""
        lists, products = near.ranked()
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        arrays = (faiss.swig_ptr(array) for array in (lists, products, scores, rows))
        parameters = faiss.SearchParametersIVF(  # type: ignore[call-arg]
            sel=selector, nprobe=lists.shape[1]
        )
        # FAISS's Python layer knows this call without parameters only.
        self._index.search_preassigned_c(
            len(queries), faiss.swig_ptr(queries), k, *arrays, False, parameters
        )
        return scores, rows
