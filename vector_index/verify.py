"""Checking an index from end to end: every byte, and whether its searches find what is there."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vector_index.generation import GENERATIONS, not_found_in, open_generation, read_current
from vector_index.layer import Layer
from vector_index.plan import nearest

_PROBES = 64
_PROBE_K = 10


@dataclass(frozen=True, slots=True)
class SegmentProbe:
    """recall: of the 10 exactly nearest rows, the share that the segment's own search found."""

    segment: str
    kind: str
    probes: int
    recall: float


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Every file matched its checksum; how well each segment searches."""

    generation: str
    files: int
    size_bytes: int
    segments: tuple[SegmentProbe, ...]


def verify(home: Path, *, seed: int = 0) -> VerifyReport:
    """Checks the live generation. Raises IndexCorrupt naming what is damaged, or IndexNotFound.

    seed: which stored vectors are searched for, the same ones each time.
    """
    name = read_current(home)
    if name is None:
        raise not_found_in(home)
    generation = open_generation(home / GENERATIONS / name)
    random = np.random.default_rng(seed)
    files = generation.manifest.files
    return VerifyReport(
        generation=name,
        files=len(files),
        size_bytes=sum(entry.size_bytes for entry in files.values()),
        segments=tuple(_probe(layer, random) for layer in generation.layers),
    )


def _probe(layer: Layer, random: np.random.Generator) -> SegmentProbe:
    vectors = layer.segment.vectors
    rows = random.permutation(vectors.count)[:_PROBES]
    queries = vectors.reconstruct(rows)
    k = min(_PROBE_K, vectors.count)
    scores, _ = nearest(vectors, queries, k)
    exact = -np.sort(-(queries @ vectors.originals.T), axis=1)[:, :k]
    # By score, not by row: duplicates of a vector are as good as the vector itself.
    found = scores >= exact[:, -1:] - 1e-5
    recall = float(found.mean()) if found.size else 1.0
    return SegmentProbe(layer.segment.id, vectors.kind, len(rows), recall)
