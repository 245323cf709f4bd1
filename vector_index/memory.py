"""The small honest index: everything in memory, scored by NumPy, filtered by plain Python."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_delta, check_query
from vector_index.errors import NeverPublished
from vector_index.filters import Filter, matches
from vector_index.fulltext import MemoryText
from vector_index.hybrid import Leg, find, hits_of
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    Access,
    IndexDelta,
    IndexVersion,
    MetadataType,
    Passage,
    SearchResult,
    SourceVersion,
    passage_from_row,
)
from vector_index.query import EQUAL, LegWeights, QueryType, Wanted

_Key = tuple[str, int]


class InMemoryIndex:
    """A VectorIndex for tests and small data; nothing is kept after the process ends."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._documents: dict[str, str] = {}
        self._rows: dict[str, list[tuple[Passage, NDArray[np.float32]]]] = {}
        self._text = MemoryText(has_tenant=settings.has_tenant, has_groups=settings.has_groups)
        self._version: IndexVersion | None = None

    @property
    def metadata_columns(self) -> Mapping[str, MetadataType]:
        return self._settings.metadata_columns

    def version(self) -> IndexVersion:
        if self._version is None:
            raise NeverPublished(self._settings.name)
        return self._version

    def search(
        self,
        vector: NDArray[np.float32] | None,
        *,
        k: int,
        access: Access,
        where: Filter | None = None,
        text: str | None = None,
        mode: QueryType = "ann",
        weights: LegWeights = EQUAL,
    ) -> SearchResult:
        """As `VectorIndex.search`; full text needs `text` and no vector, hybrid needs both."""
        version = self.version()
        found = find(
            Wanted(vector, text, mode, k, weights),
            nearest=lambda wanted, depth: self._nearest(wanted, depth, access, where),
            with_words=lambda words, depth: self._with_words(words, depth, access, where),
            cosine=lambda key, wanted: float(self._row(key)[1] @ wanted),
        )
        passages = [self._row(one.ref)[0] for one in found]
        return SearchResult(hits_of(found, passages, k), version)

    def documents(self) -> Mapping[str, str]:
        return dict(self._documents)

    def publish(self, delta: IndexDelta, source: SourceVersion) -> IndexVersion:
        check_delta(delta, self._settings.embedder.dim)
        self._text.remove([*delta.removed, *delta.documents["document_id"].to_pylist()])
        for document_id in delta.removed:
            self._documents.pop(document_id, None)
            self._rows.pop(document_id, None)
        for row in delta.documents.to_pylist():
            self._documents[row["document_id"]] = row["document_hash"]
            self._rows[row["document_id"]] = []
        for row, vector in zip(delta.passages.to_pylist(), delta.vectors, strict=True):
            passage = passage_from_row(row)
            self._rows[passage.document_id].append((passage, vector.copy()))
            self._text.add([passage])
        number = 1 if self._version is None else self._version.number + 1
        name = f"{number}-{source.table_id}-v{source.version}"
        self._version = IndexVersion(self._settings.name, name, number, datetime.now(UTC), source)
        return self._version

    def _nearest(
        self, vector: NDArray[np.float32], k: int, access: Access, where: Filter | None
    ) -> Leg[_Key]:
        check_query(vector, k, self._settings.embedder.dim)
        found = [
            ((passage.document_id, passage.ordinal), float(stored @ vector))
            for rows in self._rows.values()
            for passage, stored in rows
            if self._may_see(passage, access)
            and (where is None or matches(where, passage.metadata))
        ]
        found.sort(key=lambda entry: (-entry[1], entry[0]))
        return found[:k]

    def _with_words(self, text: str, k: int, access: Access, where: Filter | None) -> Leg[_Key]:
        def satisfies(document_id: str, ordinal: int) -> bool:
            passage, _ = self._row((document_id, ordinal))
            return where is None or matches(where, passage.metadata)

        found = self._text.search(text, k, access=access, is_allowed=satisfies)
        return [((hit.document_id, hit.ordinal), hit.score) for hit in found]

    def _row(self, key: _Key) -> tuple[Passage, NDArray[np.float32]]:
        document_id, ordinal = key
        return next(row for row in self._rows[document_id] if row[0].ordinal == ordinal)

    def _may_see(self, passage: Passage, access: Access) -> bool:
        if self._settings.has_tenant and passage.tenant != access.tenant:
            return False
        allowed = set(passage.allowed_groups or ())
        return not self._settings.has_groups or not access.groups.isdisjoint(allowed)
