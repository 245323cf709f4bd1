"""One published generation, opened for searching: immutable, so readers need no lock."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.checks import check_query
from vector_index.filters import Filter
from vector_index.manifest import Manifest, read_manifest, verify_files
from vector_index.masks import Mask
from vector_index.passages import Access, Hit, SearchResult
from vector_index.plan import nearest
from vector_index.segment import Segment, open_segment

# Masks are one byte a row: 64 askers over a million passages stay within 64 MB.
_ACCESS_MASKS = 64


class Generation:
    """A snapshot of an index. Open it with `open_generation`."""

    def __init__(self, manifest: Manifest, segments: tuple[Segment, ...], folder: Path) -> None:
        self.manifest = manifest
        self.segments = segments
        self.folder = folder
        self._visible = lru_cache(maxsize=_ACCESS_MASKS)(self._compute_visible)

    def search(
        self, vector: NDArray[np.float32], *, k: int, access: Access, where: Filter | None
    ) -> SearchResult:
        """As `VectorIndex.search`."""
        check_query(vector, k, self.manifest.settings.embedder.dim)
        found = [
            (float(score), number, int(row))
            for number, segment in enumerate(self.segments)
            for score, row in _scan(segment, vector, k, self._allowed(number, access, where))
        ]
        found.sort(key=lambda entry: -entry[0])
        hits = self._hits(found[:k])
        hits.sort(key=lambda hit: (-hit.score, hit.passage.document_id, hit.passage.ordinal))
        return SearchResult(tuple(hits), self.manifest.version())

    def documents(self) -> dict[str, str]:
        """Document id to content hash of every live document."""
        pairs: dict[str, str] = {}
        for segment in self.segments:
            table = segment.live_documents
            ids, hashes = table["document_id"].to_pylist(), table["document_hash"].to_pylist()
            pairs.update(zip(ids, hashes, strict=True))
        return pairs

    def vectors_by_text(self, document_ids: frozenset[str]) -> dict[str, NDArray[np.float32]]:
        """Text hash to stored vector for every passage of these documents."""
        wanted = pa.array(sorted(document_ids), pa.string())
        vectors: dict[str, NDArray[np.float32]] = {}
        for segment in self.segments:
            owners = pc.is_in(segment.passages["document_id"], value_set=wanted)
            rows = np.flatnonzero(owners.to_numpy().astype(np.bool_))
            if len(rows):
                hashes = segment.passages["text_hash"].take(pa.array(rows)).to_pylist()
                vectors.update(zip(hashes, segment.vectors.reconstruct(rows), strict=True))
        return vectors

    def _hits(self, found: list[tuple[float, int, int]]) -> list[Hit]:
        """Hits of (score, segment, row), grouped by segment: one read of each, not of each row."""
        hits: list[Hit] = []
        for number, segment in enumerate(self.segments):
            mine = [(score, row) for score, s, row in found if s == number]
            passages = segment.passages_at([row for _, row in mine]) if mine else []
            hits += [
                Hit(passage, score) for passage, (score, _) in zip(passages, mine, strict=True)
            ]
        return hits

    def _allowed(self, number: int, access: Access, where: Filter | None) -> Mask | None:
        visible = self._visible(access)[number]
        if where is None:
            return visible
        satisfying = self.segments[number].satisfying(where)
        return satisfying if visible is None else visible & satisfying

    def _compute_visible(self, access: Access) -> tuple[Mask | None, ...]:
        """Per segment: live rows this asker may see; None where that is every row."""
        masks: list[Mask | None] = []
        for segment in self.segments:
            mask = segment.visible(access)
            mask = mask if segment.live is None else mask & segment.live
            masks.append(None if mask.all() else mask)
        return tuple(masks)


def open_generation(folder: Path) -> Generation:
    """Opens a generation after checking every file against its manifest.

    Raises IndexCorrupt naming the file that differs.
    """
    manifest = read_manifest(folder)
    verify_files(manifest, folder)
    segments = tuple(open_segment(folder, entry, manifest.settings) for entry in manifest.segments)
    return Generation(manifest, segments, folder)


def _scan(
    segment: Segment, vector: NDArray[np.float32], k: int, allowed: Mask | None
) -> Iterator[tuple[np.float32, np.int64]]:
    scores, rows = nearest(segment.vectors, vector[np.newaxis], k, allowed=allowed)
    return zip(scores[0], rows[0], strict=True)
