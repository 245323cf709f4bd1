"""What one reader sees: segments and tails at one sequence number, searched as one index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_k, check_queries
from vector_index.filters import Filter
from vector_index.found import Matches
from vector_index.layer import Layer
from vector_index.manifest import IndexSettings
from vector_index.passages import Access, Hit, IndexVersion, Passage, SearchResult
from vector_index.recheck import still_qualifies
from vector_index.tail_view import TailView

Part = Layer | TailView


@dataclass(frozen=True, slots=True)
class View:
    """An immutable state of an index. Take one reference, use only it: nothing is locked."""

    settings: IndexSettings
    parts: tuple[Part, ...]
    version: IndexVersion

    def search(
        self, vector: NDArray[np.float32], *, k: int, access: Access, where: Filter | None
    ) -> SearchResult:
        """As `VectorIndex.search`."""
        check_k(k)
        check_queries(vector[None], self.settings.embedder.dim)
        found = self._nearest(vector[None], k=k, access=access, where=where)
        passages = found.passages(0)
        scores = found.scores[0].tolist()
        hits = [
            Hit(passage, score)
            for passage, score in zip(passages, scores, strict=False)
            if still_qualifies(passage, access, where, self.settings)
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.passage.document_id, hit.passage.ordinal))
        return SearchResult(tuple(hits), self.version)

    def search_many(
        self, queries: NDArray[np.float32], *, k: int, access: Access, where: Filter | None
    ) -> Matches:
        """As `BrowsableIndex.search_many`."""
        check_k(k)
        check_queries(queries, self.settings.embedder.dim)
        return self._nearest(queries, k=k, access=access, where=where)

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

    def vectors_by_text(self, document_ids: frozenset[str]) -> dict[str, NDArray[np.float32]]:
        """Text hash to stored vector for every passage of these documents."""
        vectors: dict[str, NDArray[np.float32]] = {}
        for part, rows in self._rows_of(sorted(document_ids)):
            hashes = [passage.text_hash for passage in part.take(rows)]
            vectors.update(zip(hashes, part.vectors_at(rows), strict=True))
        return vectors

    def count(self) -> tuple[int, int]:
        """How many documents and passages live."""
        counts = [part.count(self.version.sequence) for part in self.parts]
        return sum(c[0] for c in counts), sum(c[1] for c in counts)

    def _rows_of(self, document_ids: Sequence[str]) -> Iterator[tuple[Part, NDArray[np.int64]]]:
        for part in self.parts:
            rows = part.rows_of(part.find(document_ids, self.version.sequence))
            if len(rows):
                yield part, rows

    def _nearest(
        self, queries: NDArray[np.float32], *, k: int, access: Access, where: Filter | None
    ) -> Matches:
        n = len(queries)
        scores, rows = [np.full((n, k), -np.inf, np.float32)], [np.full((n, k), -1, np.int64)]
        for part in self.parts:
            found = part.scan(
                queries, k, access=access, where=where, sequence=self.version.sequence
            )
            scores.append(found[0])
            rows.append(found[1])
        part_of_column = np.repeat(np.arange(-1, len(self.parts)), [r.shape[1] for r in rows])
        all_scores, all_rows = np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)
        best = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
        best_rows = np.take_along_axis(all_rows, best, axis=1)
        parts = np.where(best_rows < 0, -1, part_of_column[best])
        return Matches(np.take_along_axis(all_scores, best, axis=1), parts, best_rows, self)
