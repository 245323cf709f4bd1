"""One published generation, opened for searching: immutable, so readers need no lock."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.checks import check_query
from vector_index.filters import Filter
from vector_index.fulltext import FullText, open_fulltext
from vector_index.hybrid import Leg, find, hits_of
from vector_index.manifest import Manifest, read_manifest, verify_files
from vector_index.masks import Mask
from vector_index.passages import Access, Passage, SearchResult
from vector_index.plan import nearest
from vector_index.query import Wanted
from vector_index.segment import Segment, open_segment

# Masks are one byte a row: 64 askers over a million passages stay within 64 MB.
_ACCESS_MASKS = 64

FULLTEXT = "fulltext"

# Number of the segment, row in it.
_Place = tuple[int, int]


class Generation:
    """A snapshot of an index. Open it with `open_generation`."""

    def __init__(
        self, manifest: Manifest, segments: tuple[Segment, ...], text: FullText, folder: Path
    ) -> None:
        self.manifest = manifest
        self.segments = segments
        self.folder = folder
        self._text = text
        self._visible = lru_cache(maxsize=_ACCESS_MASKS)(self._compute_visible)

    def search(self, wanted: Wanted, *, access: Access, where: Filter | None) -> SearchResult:
        """As `VectorIndex.search`."""
        if wanted.vector is not None:
            check_query(wanted.vector, wanted.k, self.manifest.settings.embedder.dim)
        allowed = [self._allowed(number, access, where) for number in range(len(self.segments))]
        found = find(
            wanted,
            nearest=lambda vector, k: self._nearest(vector, k, allowed),
            with_words=lambda text, k: self._with_words(text, k, access, allowed),
            cosine=self._cosine,
        )
        passages = self._passages([one.ref for one in found])
        return SearchResult(hits_of(found, passages, wanted.k), self.manifest.version())

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

    def _nearest(
        self, vector: NDArray[np.float32], k: int, allowed: list[Mask | None]
    ) -> Leg[_Place]:
        found: Leg[_Place] = []
        for number, segment in enumerate(self.segments):
            scores, rows = nearest(segment.vectors, vector[None], k, allowed=allowed[number])
            pairs = zip(scores[0].tolist(), rows[0].tolist(), strict=True)
            found += [((number, row), score) for score, row in pairs]
        found.sort(key=lambda entry: -entry[1])
        return found[:k]

    def _with_words(
        self, text: str, k: int, access: Access, allowed: list[Mask | None]
    ) -> Leg[_Place]:
        places: dict[tuple[str, int], _Place] = {}

        def is_allowed(document_id: str, ordinal: int) -> bool:
            number, row = places[document_id, ordinal] = self._find(document_id, ordinal)
            mask = allowed[number] if number >= 0 else None
            # Checked again here: what full text knows of access and deletes is not trusted alone.
            return number >= 0 and (mask is None or bool(mask[row]))

        found = self._text.search(text, k, access=access, is_allowed=is_allowed)
        return [(places[hit.document_id, hit.ordinal], hit.score) for hit in found]

    def _find(self, document_id: str, ordinal: int) -> _Place:
        """Where a live passage is, (-1, -1) where there is none."""
        for number, segment in enumerate(self.segments):
            if (row := segment.find(document_id, ordinal)) >= 0:
                return number, row
        return -1, -1

    def _cosine(self, place: _Place, vector: NDArray[np.float32]) -> float:
        number, row = place
        return float(self.segments[number].vectors.reconstruct(np.array([row]))[0] @ vector)

    def _passages(self, places: list[_Place]) -> list[Passage]:
        """The passages at these places, in their order; one read of each segment, not of each."""
        found: dict[_Place, Passage] = {}
        for number, segment in enumerate(self.segments):
            rows = [row for s, row in places if s == number]
            if rows:
                read = zip(rows, segment.passages_at(rows), strict=True)
                found.update({(number, row): passage for row, passage in read})
        return [found[place] for place in places]

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
    settings = manifest.settings
    text = open_fulltext(
        folder / FULLTEXT, has_tenant=settings.has_tenant, has_groups=settings.has_groups
    )
    return Generation(manifest, segments, text, folder)
