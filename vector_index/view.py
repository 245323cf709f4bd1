"""What one reader sees: segments and tails at one sequence number, searched as one index."""

from collections.abc import Collection
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.checks import check_k, check_queries
from vector_index.filters import Filter
from vector_index.found import Matches
from vector_index.fulltext import TantivyText
from vector_index.hybrid import Leg, find, hits_of
from vector_index.layer import Layer
from vector_index.manifest import IndexSettings
from vector_index.masks import Mask
from vector_index.passages import Access, IndexVersion, Passage, SearchResult
from vector_index.query import Wanted
from vector_index.recheck import still_qualifies
from vector_index.tail_view import TailView

Part = Layer | TailView
Place = tuple[int, int]
"""Number of the part, row in it."""
Allowed = list[Mask | None]
"""For each part which rows qualify; None where every row does."""


@dataclass(frozen=True, slots=True)
class View:
    """An immutable state of an index. Take one reference, use only it: nothing is locked.

    text: the words of what is in segments; tails bring their own.
    """

    settings: IndexSettings
    parts: tuple[Part, ...]
    text: TantivyText
    version: IndexVersion

    def search(self, wanted: Wanted, *, access: Access, where: Filter | None) -> SearchResult:
        """As `VectorIndex.search`."""
        if wanted.vector is not None:
            check_queries(wanted.vector[None], self.settings.embedder.dim)
        allowed = self._allowed(access, where)
        found = find(
            wanted,
            nearest=lambda vector, k: self._leg(vector, k, allowed),
            with_words=lambda text, k: self._with_words(text, k, access, allowed),
            cosine=self._cosine,
        )
        places = np.array([one.ref for one in found], np.int64).reshape(-1, 2)
        passages = self.take(places[:, 0], places[:, 1])
        kept = [
            (one, passage)
            for one, passage in zip(found, passages, strict=True)
            if still_qualifies(passage, access, where, self.settings)
        ]
        hits = hits_of([one for one, _ in kept], [passage for _, passage in kept], wanted.k)
        return SearchResult(hits, self.version)

    def search_many(
        self, queries: NDArray[np.float32], *, k: int, access: Access, where: Filter | None
    ) -> Matches:
        """As `BrowsableIndex.search_many`."""
        check_k(k)
        check_queries(queries, self.settings.embedder.dim)
        return self._nearest(queries, k, self._allowed(access, where))

    def take(self, parts: NDArray[np.int64], rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at these places, in this order: one Arrow take a part."""
        found: dict[int, Passage] = {}
        for number in np.unique(parts).tolist():
            at = np.flatnonzero(parts == number)
            found.update(zip(at.tolist(), self.parts[number].take(rows[at]), strict=True))
        return [found[at] for at in range(len(rows))]

    def documents(self) -> dict[str, str]:
        """Document id to content hash of every live document."""
        pairs: dict[str, str] = {}
        for part in self.parts:
            table = part.live_documents(self.version.sequence)
            ids, hashes = table["document_id"].to_pylist(), table["document_hash"].to_pylist()
            pairs.update(zip(ids, hashes, strict=True))
        return pairs

    def vectors_of(self, text_hashes: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """Text hash to stored vector; a dead passage's vector is as good as a living one's."""
        wanted = pa.array(sorted(text_hashes), pa.string())
        vectors: dict[str, NDArray[np.float32]] = {}
        if len(wanted):
            for part in self.parts:
                hashes, rows = part.rows_with(wanted)
                vectors.update(zip(hashes, part.vectors_at(rows), strict=True))
        return vectors

    def hashes_of(self, document_ids: Collection[str]) -> dict[str, str]:
        """Document id to content hash of those of these documents that live."""
        return {
            part.id_at(place): part.hash_at(place)
            for part in self.parts
            for place in part.find(list(document_ids), self.version.sequence).tolist()
        }

    def count(self) -> tuple[int, int]:
        """How many documents and passages live."""
        counts = [part.count(self.version.sequence) for part in self.parts]
        return sum(c[0] for c in counts), sum(c[1] for c in counts)

    def _allowed(self, access: Access, where: Filter | None) -> Allowed:
        return [part.allowed(access, where, self.version.sequence) for part in self.parts]

    def _nearest(self, queries: NDArray[np.float32], k: int, allowed: Allowed) -> Matches:
        n = len(queries)
        scores, rows = [np.full((n, k), -np.inf, np.float32)], [np.full((n, k), -1, np.int64)]
        for part, mask in zip(self.parts, allowed, strict=True):
            found = part.scan(queries, k, allowed=mask, sequence=self.version.sequence)
            if len(self.parts) == 1 and found[1].shape == (n, k):
                return Matches(found[0], np.zeros((n, k), np.int64), found[1], self)
            scores.append(found[0])
            rows.append(found[1])
        part_of_column = np.repeat(np.arange(-1, len(self.parts)), [r.shape[1] for r in rows])
        all_scores, all_rows = np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)
        best = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
        best_rows = np.take_along_axis(all_rows, best, axis=1)
        parts = np.where(best_rows < 0, -1, part_of_column[best])
        return Matches(np.take_along_axis(all_scores, best, axis=1), parts, best_rows, self)

    def _leg(self, vector: NDArray[np.float32], k: int, allowed: Allowed) -> Leg[Place]:
        """As `_nearest` of one query: for so few rows plain lists cost a fifth."""
        found: Leg[Place] = []
        for number, (part, mask) in enumerate(zip(self.parts, allowed, strict=True)):
            scores, rows = part.scan(
                vector[np.newaxis], k, allowed=mask, sequence=self.version.sequence
            )
            pairs = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
            found += [((number, row), score) for row, score in pairs]
        return sorted(found, key=itemgetter(1), reverse=True)[:k]

    def _with_words(self, text: str, k: int, access: Access, allowed: Allowed) -> Leg[Place]:
        """The generation's full text finds what is in its segments, each tail what is in it."""
        places: dict[tuple[str, int], Place] = {}

        def is_allowed(document_id: str, ordinal: int) -> bool:
            number, row = places[document_id, ordinal] = self._find_row(document_id, ordinal)
            mask = allowed[number] if number >= 0 else None
            # Checked again here: what full text knows of access and deletes is not trusted alone.
            return number >= 0 and (mask is None or bool(mask[row]))

        hits = self.text.search(text, k, access=access, is_allowed=is_allowed)
        found = [(places[hit.document_id, hit.ordinal], hit.score) for hit in hits]
        for number, part in enumerate(self.parts):
            if isinstance(part, TailView):
                mask = allowed[number]
                assert mask is not None
                rows = part.with_words(text, k, allowed=mask, background=self.text)
                found += [((number, row), score) for row, score in rows]
        return sorted(found, key=itemgetter(1), reverse=True)[:k]

    def _find_row(self, document_id: str, ordinal: int) -> Place:
        """Where in the segments a living passage is, (-1, -1) where there is none."""
        for number, part in enumerate(self.parts):
            if isinstance(part, Layer):
                row = part.find_row(document_id, ordinal, self.version.sequence)
                if row >= 0:
                    return number, row
        return -1, -1

    def _cosine(self, place: Place, vector: NDArray[np.float32]) -> float:
        number, row = place
        return float(self.parts[number].vectors_at(np.array([row]))[0] @ vector)
