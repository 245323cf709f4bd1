"""Reading an index in Milvus other than by a question: counts, documents, pages."""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_limit
from vector_index.found import Page, StoredDocument
from vector_index.manifest import IndexSettings
from vector_index.milvus.expressions import after_document, alive_at, any_of
from vector_index.milvus.names import collections_of
from vector_index.milvus.rows import StoredPassage, stored_passage
from vector_index.milvus.searching import STORED_FIELDS
from vector_index.milvus.store import Store
from vector_index.passages import Access, Passage

_IDS_AT_ONCE = 200


class Browse:
    """What is alive at one step."""

    def __init__(self, store: Store, settings: IndexSettings, step: int) -> None:
        self._store = store
        self._settings = settings
        self._names = collections_of(settings.name)
        self._alive = alive_at(step)

    def count(self) -> tuple[int, int]:
        """How many documents and how many passages there are."""
        documents, passages = self._names.documents, self._names.passages
        return self._store.count(documents, self._alive), self._store.count(passages, self._alive)

    def documents(self) -> dict[str, str]:
        """Document id to content hash, in the order of the ids."""
        return dict(self._hashes(None))

    def page(self, after: str | None, limit: int, access: Access | None) -> Page:
        """As `BrowsableIndex.scan`. Raises InvalidQuery."""
        check_limit(limit)
        found = list(islice(self._visible(after, access), limit + 1))
        return Page(tuple(found[:limit]), found[limit - 1].document_id if found[limit:] else None)

    def vectors_of(
        self, text_hashes: Collection[str], among: Collection[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Text hash to vector of those of these texts that the documents `among` have.

        A row's text hash is no field of its own, so it cannot be searched for.
        """
        rest, wanted = iter(among), set(text_hashes)
        found: dict[str, NDArray[np.float32]] = {}
        while some := list(islice(rest, _IDS_AT_ONCE)):
            stored = ((one.passage.text_hash, one.vector) for one in self._passages_of(some))
            found |= {text: vector for text, vector in stored if text in wanted}
        return found

    def hashes_of(self, document_ids: Collection[str]) -> dict[str, str]:
        """Document id to content hash, of those of these documents that are indexed."""
        rest = iter(document_ids)
        found: dict[str, str] = {}
        while some := list(islice(rest, _IDS_AT_ONCE)):
            expression = f"{self._alive} and {any_of('document_id', some)}"
            fields = ["document_id", "document_hash"]
            for row in self._store.scan(self._names.documents, expression, fields):
                found[str(row["document_id"])] = str(row["document_hash"])
        return found

    def _visible(self, after: str | None, access: Access | None) -> Iterator[StoredDocument]:
        hashes = self._hashes(after)
        while some := dict(islice(hashes, _IDS_AT_ONCE)):
            passages: dict[str, list[Passage]] = {document_id: [] for document_id in some}
            for stored in self._passages_of(some):
                if access is None or self._settings.may_see(stored.passage, access):
                    passages[stored.passage.document_id].append(stored.passage)
            for document_id, found in passages.items():
                if found or access is None:
                    found.sort(key=lambda passage: passage.ordinal)
                    yield StoredDocument(document_id, some[document_id], tuple(found))

    def _hashes(self, after: str | None) -> Iterator[tuple[str, str]]:
        expression = self._alive
        if after is not None:
            expression += f" and {after_document(after)}"
        fields = ["document_id", "document_hash"]
        for row in self._store.scan(self._names.documents, expression, fields):
            yield str(row["document_id"]), str(row["document_hash"])

    def _passages_of(self, document_ids: Iterable[str]) -> Iterator[StoredPassage]:
        expression = f"{self._alive} and {any_of('document_id', document_ids)}"
        for row in self._store.scan(self._names.passages, expression, STORED_FIELDS):
            yield stored_passage(row, self._settings)
