"""What every contender of benchmarks/rivals.py can do, and our own ones.

A contender is built once into a folder by a process with every core, then opened and searched by
a process of its own that is held to one core. `ask` is what is timed: the client's own call, with
what it returns; `rows` turns that into row numbers and is not timed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from corpora import Floats, K, Rows
from published import ACCESS, index_settings, make_delta, source_version

# A search effort: the values of a contender's knobs, least work first within a family.
Effort = tuple[int, ...]
Families = Sequence[Sequence[Effort]]

WIDTHS = (10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160)
WIDTHS = (*WIDTHS, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024)
PROBES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64)
PROBES = (*PROBES, 80, 96, 112, 128, 160, 192, 256, 384, 512)
AS_SHIPPED: Families = [[()]]


def one_knob(values: Iterable[int]) -> Families:
    """One family with one knob."""
    return [[(value,) for value in values]]


class Contender(Protocol):
    """A way to the ten nearest rows."""

    folder: str  # where it is built; contenders that share it are built once
    families: Families
    note: str

    def build(self, vectors: Floats, folder: Path) -> None:
        """Writes an index of float32 (n, dim) into an empty folder."""

    def open(self, folder: Path, vectors: Floats) -> None:
        """Opens what was built."""

    def set_effort(self, effort: Effort) -> None:
        """Searches from now on look so far."""

    def ask(self, queries: Floats) -> Any:
        """The ten nearest of float32 (1, dim) or (64, dim)."""

    def rows(self, answer: Any) -> Rows:
        """Row numbers (n, at most 10)."""


class OurKind:
    """`plan.nearest` over one kind; the knobs are the FAISS index's own."""

    def __init__(self, kind: Any, families: Families, note: str = "") -> None:
        self.kind, self.families, self.note = kind, families, note
        self.folder = f"ours_{kind}"

    def build(self, vectors: Floats, folder: Path) -> None:
        from vector_index.kinds import KINDS

        KINDS[self.kind].build(np.ascontiguousarray(vectors)).write(folder)

    def open(self, folder: Path, vectors: Floats) -> None:
        from vector_index.kinds import KINDS
        from vector_index.plan import nearest

        self._segment: Any = KINDS[self.kind].open(folder)
        self._nearest = nearest

    def set_effort(self, effort: Effort) -> None:
        from vector_index.kinds import ivf

        if not effort:
            return
        if self.kind.startswith("hnsw"):
            self._segment._index.hnsw.efSearch = effort[0]
            return
        self._segment.index.nprobe = effort[0]
        if len(effort) > 1:
            recipes: Any = ivf.RECIPES
            recipes[self.kind] = replace(recipes[self.kind], refine=effort[1])

    def ask(self, queries: Floats) -> Any:
        return self._nearest(self._segment, queries, K)

    def rows(self, answer: Any) -> Rows:
        found: Rows = answer[1]
        return found


class OurIndex:
    """A published LocalIndex through its public search: access, passages and text included."""

    note = "returns passages with their text"
    families = AS_SHIPPED

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.folder = f"index_{kind}"

    def build(self, vectors: Floats, folder: Path) -> None:
        self._opened(folder, vectors.shape[1]).publish(make_delta(vectors), source_version(1))

    def open(self, folder: Path, vectors: Floats) -> None:
        self._index = self._opened(folder, vectors.shape[1])

    def set_effort(self, effort: Effort) -> None:
        pass

    def ask(self, queries: Floats) -> Any:
        return search_index(self._index, queries)

    def rows(self, answer: Any) -> Rows:
        return np.array([[int(passage.document_id) for passage in one] for one in answer])

    def _opened(self, folder: Path, dim: int) -> Any:
        from vector_index.local import LocalIndex

        return LocalIndex(folder, index_settings(self.kind, dim))


def search_index(index: Any, queries: Floats) -> list[Any]:
    """What one asks of an index: passages with their text, of one query or of many at once."""
    if len(queries) == 1:
        return [[hit.passage for hit in index.search(queries[0], k=K, access=ACCESS).hits]]
    found = index.search_many(queries, k=K, access=ACCESS)
    return [found.passages(number) for number in range(len(queries))]


def our_contenders() -> Mapping[str, Callable[[], Contender]]:
    """Ours by name: tuned as the rivals are, and with the effort that we ship."""
    refines = [[(probes, refine) for probes in PROBES] for refine in (2, 4, 8)]
    made: dict[str, Callable[[], Contender]] = {
        "ours:flat": lambda: OurKind("flat", AS_SHIPPED, "exact"),
        "ours:ivf_flat": lambda: OurKind("ivf_flat", one_knob(PROBES)),
        "ours:ivf_sq8": lambda: OurKind("ivf_sq8", refines[:2]),
        "ours:ivf_rabitq": lambda: OurKind("ivf_rabitq", refines),
        "ours:hnsw": lambda: OurKind("hnsw", one_knob(WIDTHS)),
        "ours:hnsw_sq8": lambda: OurKind("hnsw_sq8", one_knob(WIDTHS)),
    }
    for kind in ("ivf_flat", "ivf_rabitq", "hnsw"):
        made[f"shipped:{kind}"] = lambda kind=kind: OurKind(kind, AS_SHIPPED, "default effort")
    for kind in ("auto", "hnsw"):
        made[f"index:{kind}"] = lambda kind=kind: OurIndex(kind)
    return made
