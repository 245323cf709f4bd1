"""Everything that can be asked of an index: one class, over whatever view is current."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vector_index.filters import Filter
from vector_index.found import Matches, Page, StoredDocument
from vector_index.manifest import IndexSettings
from vector_index.page import read_documents, read_page, read_vectors
from vector_index.passages import Access, IndexVersion, MetadataType, SearchResult
from vector_index.query import EQUAL, LegWeights, QueryType, Wanted
from vector_index.stats import IndexStats, read_stats
from vector_index.view import View


class Reading(ABC):
    """The reading half of an index. Each call takes one view and answers from it alone."""

    _home: Path
    _settings: IndexSettings

    @abstractmethod
    def view(self) -> View:
        """The newest state: one immutable reference. Raises IndexNotFound where none is."""

    @property
    def settings(self) -> IndexSettings:
        """What the index is made of."""
        return self._settings

    @property
    def metadata_columns(self) -> Mapping[str, MetadataType]:
        """The columns a filter may name, with their types."""
        return self._settings.metadata_columns

    def version(self) -> IndexVersion:
        """What an answer given now is built from."""
        return self.view().version

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
        """As `VectorIndex.search`."""
        wanted = Wanted(vector, text, mode, k, weights)
        return self.view().search(wanted, access=access, where=where)

    def search_many(
        self, queries: NDArray[np.float32], *, k: int, access: Access, where: Filter | None = None
    ) -> Matches:
        """As `search`, for float32 (n, dim) queries at once; passages are read when asked for."""
        return self.view().search_many(queries, k=k, access=access, where=where)

    def documents(self) -> Mapping[str, str]:
        """Document id to content hash of everything indexed."""
        return self.view().documents()

    def vectors_of(
        self, text_hashes: Collection[str], *, among: Collection[str] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """As `SyncedIndex.vectors_of`; whatever document has it."""
        return self.view().vectors_of(text_hashes)

    def hashes_of(self, document_ids: Collection[str]) -> dict[str, str]:
        """Document id to content hash, of those of these documents that are indexed."""
        return self.view().hashes_of(document_ids)

    def count(self) -> tuple[int, int]:
        """How many documents and how many passages there are."""
        return self.view().count()

    def stats(self) -> IndexStats:
        """What the index consists of, in memory and on the disk."""
        return read_stats(self._home, self.view())

    def scan(self, *, after: str | None, limit: int, access: Access | None) -> Page:
        """The next documents by id, with their passages; `after` None starts at the first.

        access: whose eyes to read with; None is an operator, who sees everything. Raises
        InvalidQuery for a limit outside 1..MAX_K.
        """
        return read_page(self.view(), after=after, limit=limit, access=access)

    def read(self, document_ids: Sequence[str]) -> dict[str, StoredDocument]:
        """Those of these documents that are indexed, by id, as an operator reads them."""
        return read_documents(self.view(), document_ids)

    def read_vectors(self, document_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Their vectors, by id: float32 (passages, dim), in the order `read` has the passages."""
        return read_vectors(self.view(), document_ids)
