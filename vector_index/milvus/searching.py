"""Finding passages in Milvus: never fewer than qualify, and none that was not checked again."""

import heapq
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_queries
from vector_index.filters import Filter, matches
from vector_index.fulltext import MemoryText
from vector_index.fulltext.tokens import query_terms
from vector_index.hybrid import Leg, find, hits_of
from vector_index.manifest import IndexSettings
from vector_index.milvus.expressions import qualifying
from vector_index.milvus.names import collections_of
from vector_index.milvus.rows import StoredPassage, stored_passage
from vector_index.milvus.schema import search_params
from vector_index.milvus.store import Store
from vector_index.passages import Access, Hit
from vector_index.query import Wanted

STORED_FIELDS = ("document_id", "text", "facts", "vector")

# One more than k shows whether others tie with the last; the rest is for loose rows.
_SPARE = 8
_WIDER = 4
# Milvus takes 16,384, but that many passages weigh some 50 MB on the way.
_MOST_ROWS = 4096

_Key = tuple[str, int]
_Scored = tuple[StoredPassage, float]
_Ask = Callable[[int], list[_Scored]]


class Search:
    """One search of the rows that are alive at one step."""

    def __init__(
        self,
        store: Store,
        settings: IndexSettings,
        step: int,
        *,
        access: Access,
        where: Filter | None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._access = access
        self._where = where
        self._collection = collections_of(settings.name).passages
        self._expression = qualifying(step, access, where, settings)
        self._found: dict[_Key, StoredPassage] = {}

    def hits(self, wanted: Wanted) -> tuple[Hit, ...]:
        """What `VectorIndex.search` returns. Raises InvalidQuery."""
        found = find(
            wanted,
            nearest=self._nearest,
            with_words=self._with_words,
            cosine=lambda key, vector: float(self._found[key].vector @ vector),
        )
        passages = [self._found[one.ref].passage for one in found]
        return hits_of(found, passages, wanted.k)

    def _nearest(self, vector: NDArray[np.float32], k: int) -> Leg[_Key]:
        check_queries(vector[None], self._settings.embedder.dim)

        def ask(limit: int) -> list[_Scored]:
            params = search_params(self._settings.kind, limit)
            rows = self._ask("vector", vector, limit, params)
            return [(stored, float(stored.vector @ vector)) for stored, _ in rows]

        found, seen = self._widened(ask, k)
        if len(found) < k and self._store.count(self._collection, self._expression) > seen:
            # An approximate index lost rows on the way, or loose rows filled the answer.
            everything = ((one, float(one.vector @ vector)) for one in self._scan())
            found = heapq.nsmallest(k, everything, key=_best_first)
        return self._leg(found)

    def _with_words(self, text: str, k: int) -> Leg[_Key]:
        terms = query_terms(text)
        if not terms:
            return []

        def ask(limit: int) -> list[_Scored]:
            rows = self._ask("term_weights", " ".join(terms), limit, {})
            # Higher is better; milvus-lite 3.2 answers with the negative of the score.
            return [(stored, abs(distance)) for stored, distance in rows]

        found, seen = self._widened(ask, k)
        if len(found) < k and seen == _MOST_ROWS:
            return self._with_words_of_all(text, k)
        return self._leg(found)

    def _with_words_of_all(self, text: str, k: int) -> Leg[_Key]:
        """The last resort: what qualifies is scored here, as a collection of its own."""
        own = MemoryText(has_tenant=False, has_groups=False)
        for stored in self._scan():
            own.add([stored.passage])
            self._found[stored.key] = stored
        hits = own.search(text, k, access=self._access, is_allowed=lambda *_: True)
        return [((hit.document_id, hit.ordinal), hit.score) for hit in hits]

    def _widened(self, ask: _Ask, k: int) -> tuple[list[_Scored], int]:
        """What qualifies among ever more rows, best first, and how many rows were seen.

        Ends with k and all that tie with the k-th, with all there is, or at _MOST_ROWS.
        """
        limit = min(k + _SPARE, _MOST_ROWS)
        while True:
            rows = ask(limit)
            found = sorted((row for row in rows if self._is_due(row[0])), key=_best_first)
            has_enough = len(found) > k and found[-1][1] < found[k - 1][1]
            if has_enough or len(rows) < limit or limit == _MOST_ROWS:
                return found, len(rows)
            limit = min(limit * _WIDER, _MOST_ROWS)

    def _ask(
        self,
        field: str,
        query: NDArray[np.float32] | str,
        limit: int,
        params: dict[str, object],
    ) -> list[_Scored]:
        rows = self._store.nearest(
            self._collection,
            field,
            query,
            limit=limit,
            expression=self._expression,
            params=params,
            fields=STORED_FIELDS,
        )
        return [(stored_passage(row, self._settings), distance) for row, distance in rows]

    def _scan(self) -> Iterator[StoredPassage]:
        for row in self._store.scan(self._collection, self._expression, STORED_FIELDS):
            stored = stored_passage(row, self._settings)
            if self._is_due(stored):
                yield stored

    def _is_due(self, stored: StoredPassage) -> bool:
        """Access and filter once more, on the passage itself."""
        return self._settings.may_see(stored.passage, self._access) and (
            self._where is None or matches(self._where, stored.passage.metadata)
        )

    def _leg(self, found: list[_Scored]) -> Leg[_Key]:
        self._found.update({stored.key: stored for stored, _ in found})
        return [(stored.key, score) for stored, score in found]


def _best_first(scored: _Scored) -> tuple[float, str, int]:
    stored, score = scored
    return (-score, *stored.key)
