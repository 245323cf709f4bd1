"""Checking an index from end to end: every byte, and whether its searches find what is there."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vector_index.errors import IndexCorrupt
from vector_index.generation import (
    GENERATIONS,
    kept_generations,
    not_found_in,
    open_current,
    published,
    read_current,
)
from vector_index.layer import Layer
from vector_index.manifest import Manifest, read_manifest, verify_files
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
    """Every file of every kept generation has its SHA-256.

    files: in all of them. segments: how well those of the live one search."""

    generation: str
    generations: int
    files: int
    segments: tuple[SegmentProbe, ...]


def verified(home: Path) -> Manifest | None:
    """The live generation's manifest, after hashing every file that it names; None without one.

    Raises IndexCorrupt naming a file that differs.
    """
    while (manifest := published(home)) is not None:
        try:
            verify_files(manifest, home / GENERATIONS / manifest.generation, known={})
            return manifest
        except (IndexCorrupt, OSError):
            if read_current(home) == manifest.generation:
                raise  # else it was pruned meanwhile, and another one is live
    return None


def verify(home: Path, *, seed: int = 0) -> VerifyReport:
    """Checks all kept generations, and the searches of the live one.

    seed: which stored vectors are searched for, the same ones each time. Raises IndexCorrupt
    naming what is damaged, or IndexNotFound.
    """
    live = open_current(home, None)
    if live is None:
        raise not_found_in(home)
    others = [f for f in kept_generations(home) if f.name != live.manifest.generation]
    manifests = [live.manifest, *filter(None, map(_verified, others))]
    random = np.random.default_rng(seed)
    return VerifyReport(
        generation=live.manifest.generation,
        generations=len(manifests),
        files=sum(len(manifest.files) for manifest in manifests),
        segments=tuple(_probe(layer, random) for layer in live.layers),
    )


def _verified(folder: Path) -> Manifest | None:
    """The manifest of an intact generation, None where a writer pruned it meanwhile."""
    try:
        manifest = read_manifest(folder)
        verify_files(manifest, folder, known={})
    except (IndexCorrupt, OSError):
        if folder.is_dir():
            raise
        return None
    return manifest


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
