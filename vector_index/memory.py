"""The small honest index: everything in memory, scored by NumPy, filtered by plain Python."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_delta, check_k, check_queries
from vector_index.errors import IndexNotFound
from vector_index.filters import Filter, matches
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    Access,
    Hit,
    IndexDelta,
    IndexVersion,
    MetadataType,
    Passage,
    SearchResult,
    SourceVersion,
    passage_from_row,
)


class InMemoryIndex:
    """A VectorIndex for tests and small data; nothing is kept after the process ends."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._documents: dict[str, str] = {}
        self._rows: dict[str, list[tuple[Passage, NDArray[np.float32]]]] = {}
        self._version: IndexVersion | None = None

    @property
    def metadata_columns(self) -> Mapping[str, MetadataType]:
        return self._settings.metadata_columns

    def version(self) -> IndexVersion:
        if self._version is None:
            raise IndexNotFound(f"index {self._settings.name!r} has not been published yet")
        return self._version

    def search(
        self, vector: NDArray[np.float32], *, k: int, access: Access, where: Filter | None = None
    ) -> SearchResult:
        version = self.version()
        check_k(k)
        check_queries(vector[None], self._settings.embedder.dim)
        hits = [
            Hit(passage, float(stored @ vector))
            for rows in self._rows.values()
            for passage, stored in rows
            if self._may_see(passage, access)
            and (where is None or matches(where, passage.metadata))
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.passage.document_id, hit.passage.ordinal))
        return SearchResult(tuple(hits[:k]), version)

    def documents(self) -> Mapping[str, str]:
        return dict(self._documents)

    def publish(self, delta: IndexDelta, source: SourceVersion) -> IndexVersion:
        check_delta(delta, self._settings)
        for document_id in delta.removed:
            self._documents.pop(document_id, None)
            self._rows.pop(document_id, None)
        for row in delta.documents.to_pylist():
            self._documents[row["document_id"]] = row["document_hash"]
            self._rows[row["document_id"]] = []
        for row, vector in zip(delta.passages.to_pylist(), delta.vectors, strict=True):
            self._rows[row["document_id"]].append((passage_from_row(row), vector.copy()))
        number = 1 if self._version is None else self._version.number + 1
        name = f"{number}-{source.table_id}-v{source.version}"
        self._version = IndexVersion(self._settings.name, name, number, datetime.now(UTC), source)
        return self._version

    def _may_see(self, passage: Passage, access: Access) -> bool:
        if self._settings.has_tenant and passage.tenant != access.tenant:
            return False
        allowed = set(passage.allowed_groups or ())
        return not self._settings.has_groups or not access.groups.isdisjoint(allowed)
