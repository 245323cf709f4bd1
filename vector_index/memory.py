"""The small honest index: everything in memory, scored by NumPy, filtered by plain Python."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_base, check_delta, check_ids, check_limit, check_queries
from vector_index.errors import NeverPublished, WriterClosed
from vector_index.filters import Filter, matches
from vector_index.found import Matches, Page, StoredDocument, matches_of
from vector_index.fulltext import MemoryText
from vector_index.hybrid import Leg, find, hits_of
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    Access,
    Base,
    IndexDelta,
    IndexVersion,
    MetadataType,
    Passage,
    SearchResult,
    SourceVersion,
    empty_delta,
    passage_from_row,
)
from vector_index.query import EQUAL, LegWeights, QueryType, Wanted

_Row = tuple[Passage, NDArray[np.float32]]
_Key = tuple[str, int]


class InMemoryIndex:
    """A WritableIndex and BrowsableIndex for tests and small data, gone with the process."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._documents: dict[str, str] = {}
        self._rows: dict[str, list[_Row]] = {}
        self._text = MemoryText(has_tenant=settings.has_tenant, has_groups=settings.has_groups)
        self._version: IndexVersion | None = None
        self._is_flushed = True
        self._is_closed = False

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
        version = self.version()
        if vector is not None:
            check_queries(vector[None], self._settings.embedder.dim)
        found = find(
            Wanted(vector, text, mode, k, weights),
            nearest=lambda wanted, depth: self._nearest(wanted, depth, access, where),
            with_words=lambda words, depth: self._with_words(words, depth, access, where),
            cosine=lambda key, wanted: float(self._row(key)[1] @ wanted),
        )
        passages = [self._row(one.ref)[0] for one in found]
        return SearchResult(hits_of(found, passages, k), version)

    def search_many(
        self, queries: NDArray[np.float32], *, k: int, access: Access, where: Filter | None = None
    ) -> Matches:
        check_queries(queries, self._settings.embedder.dim)
        results = [self.search(query, k=k, access=access, where=where) for query in queries]
        return matches_of(results, k)

    def documents(self) -> Mapping[str, str]:
        return dict(self._documents)

    def count(self) -> tuple[int, int]:
        self.version()
        return len(self._documents), sum(map(len, self._rows.values()))

    def scan(self, *, after: str | None, limit: int, access: Access | None) -> Page:
        self.version()
        check_limit(limit)
        found = [
            document
            for key in sorted(self._documents)
            if after is None or key > after
            for document in self._visible(key, access)
        ]
        return Page(tuple(found[:limit]), found[limit - 1].document_id if found[limit:] else None)

    def publish(
        self, delta: IndexDelta, source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        check_delta(delta, self._settings)
        self._check_open()
        check_base(self._version, base, self._settings.name)
        self._apply(delta)
        sequence = 1 if self._version is None else self._version.sequence + 1
        return self._next_generation(source, sequence)

    def upsert(self, delta: IndexDelta, *, source: SourceVersion | None = None) -> IndexVersion:
        check_delta(delta, self._settings)
        self._check_open()
        before = self.version()
        if not self._apply(delta) and source is None:
            return before
        self._is_flushed = False
        self._version = replace(
            before, sequence=before.sequence + 1, source=source or before.source
        )
        return self._version

    def delete(
        self, document_ids: Collection[str], *, source: SourceVersion | None = None
    ) -> IndexVersion:
        check_ids(document_ids)
        columns, dim = self._settings.metadata_columns, self._settings.embedder.dim
        return self.upsert(
            empty_delta(columns, dim, removed=frozenset(document_ids)), source=source
        )

    def flush(self) -> IndexVersion:
        self._check_open()
        before = self.version()
        return before if self._is_flushed else self._next_generation(
            before.source, before.sequence
        )  # fmt: skip

    def close(self) -> None:
        self._is_closed = True

    def _apply(self, delta: IndexDelta) -> bool:
        """Takes the change in; says whether it changed anything."""
        gone = delta.removed & self._documents.keys()
        self._text.remove([*gone, *delta.documents["document_id"].to_pylist()])
        for document_id in gone:
            del self._documents[document_id], self._rows[document_id]
        for row in delta.documents.to_pylist():
            self._documents[row["document_id"]] = row["document_hash"]
            self._rows[row["document_id"]] = []
        for row, vector in zip(delta.passages.to_pylist(), delta.vectors, strict=True):
            passage = passage_from_row(row)
            self._rows[passage.document_id].append((passage, vector.copy()))
            self._text.add([passage])
        return bool(gone) or delta.documents.num_rows > 0

    def _next_generation(self, source: SourceVersion, sequence: int) -> IndexVersion:
        number = 1 if self._version is None else self._version.number + 1
        name = f"{number}-{source.table_id}-v{source.version}"
        self._version = IndexVersion(
            self._settings.name, name, number, datetime.now(UTC), source, sequence
        )
        self._is_flushed = True
        return self._version

    def _nearest(
        self, vector: NDArray[np.float32], k: int, access: Access, where: Filter | None
    ) -> Leg[_Key]:
        found = [
            ((passage.document_id, passage.ordinal), float(stored @ vector))
            for passage, stored in self._qualifying(access, where)
        ]
        found.sort(key=lambda entry: (-entry[1], entry[0]))
        return found[:k]

    def _with_words(self, text: str, k: int, access: Access, where: Filter | None) -> Leg[_Key]:
        def satisfies(document_id: str, ordinal: int) -> bool:
            passage, _ = self._row((document_id, ordinal))
            return where is None or matches(where, passage.metadata)

        found = self._text.search(text, k, access=access, is_allowed=satisfies)
        return [((hit.document_id, hit.ordinal), hit.score) for hit in found]

    def _row(self, key: _Key) -> _Row:
        document_id, ordinal = key
        return next(row for row in self._rows[document_id] if row[0].ordinal == ordinal)

    def _qualifying(self, access: Access, where: Filter | None) -> Iterator[_Row]:
        for rows in self._rows.values():
            for passage, stored in rows:
                if self._settings.may_see(passage, access) and (
                    where is None or matches(where, passage.metadata)
                ):
                    yield passage, stored

    def _visible(self, key: str, access: Access | None) -> Iterator[StoredDocument]:
        passages = [passage for passage, _ in self._rows[key]]
        if access is not None:
            passages = [p for p in passages if self._settings.may_see(p, access)]
        if passages or access is None:
            yield StoredDocument(key, self._documents[key], tuple(passages))

    def _check_open(self) -> None:
        if self._is_closed:
            raise WriterClosed(f"index {self._settings.name!r} was closed; make another one")
