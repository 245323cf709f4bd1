"""Rivals of benchmarks/rivals.py that are libraries: graphs in this process's memory.

Graphs have M 16 and ef_construction 200 unless a name says otherwise. Vectors are L2-normalised,
so inner product and cosine rank alike. usearch keeps float32, or the bfloat16 and int8 that its
documentation recommends.
"""

from pathlib import Path
from typing import Any

import numpy as np
from contenders import WIDTHS, Effort, Families, one_knob
from corpora import Floats, K, Rows

M = 16
EF_CONSTRUCTION = 200


class Hnswlib:
    """hnswlib, bound to one thread by its own setting."""

    note = ""
    families: Families = one_knob(WIDTHS)

    def __init__(self, m: int) -> None:
        self._m = m
        self.folder = f"hnswlib_m{m}"

    def build(self, vectors: Floats, folder: Path) -> None:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(len(vectors), ef_construction=EF_CONSTRUCTION, M=self._m, random_seed=0)
        index.add_items(vectors)
        index.save_index(str(folder / "index"))

    def open(self, folder: Path, vectors: Floats) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._index.load_index(str(folder / "index"))
        self._index.set_num_threads(1)

    def set_effort(self, effort: Effort) -> None:
        self._index.set_ef(effort[0])

    def ask(self, queries: Floats) -> Any:
        return self._index.knn_query(queries, k=K)

    def rows(self, answer: Any) -> Rows:
        return np.asarray(answer[0], np.int64)


class Usearch:
    """usearch with one scalar type."""

    families: Families = one_knob(WIDTHS)

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self.folder = f"usearch_{dtype}"
        self.note = f"vectors as {dtype}"

    def build(self, vectors: Floats, folder: Path) -> None:
        from usearch.index import Index

        index = Index(
            ndim=vectors.shape[1],
            metric="cos",
            dtype=self._dtype,
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        index.add(np.arange(len(vectors)), vectors)
        index.save(str(folder / "index"))

    def open(self, folder: Path, vectors: Floats) -> None:
        from usearch.index import Index

        index = Index.restore(str(folder / "index"), view=False)
        assert index is not None
        self._index = index

    def set_effort(self, effort: Effort) -> None:
        self._index.expansion_search = effort[0]

    def ask(self, queries: Floats) -> Any:
        # A single query is a vector, not a batch of one: usearch's shorter path.
        return self._index.search(queries[0] if len(queries) == 1 else queries, K, threads=1)

    def rows(self, answer: Any) -> Rows:
        return np.atleast_2d(np.asarray(answer.keys)).astype(np.int64)
