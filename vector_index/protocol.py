"""What every vector index can do, whoever stores it."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vector_index.filters import Filter
from vector_index.found import Matches, Page
from vector_index.passages import (
    Access,
    Base,
    IndexDelta,
    IndexVersion,
    MetadataType,
    SearchResult,
    SourceVersion,
)
from vector_index.query import EQUAL, LegWeights, QueryType

MAX_K = 1000


class Staging(Protocol):
    """A large change under way; `SyncedIndex.staging` begins one."""

    def kept(self) -> Collection[str]:
        """The documents that an earlier attempt has written as they are wanted now."""

    def add(self, delta: IndexDelta) -> None:
        """Takes in a part; nobody sees it."""

    def publish(
        self, removed: frozenset[str], source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """Makes all parts live as one generation, and takes `removed` out; as `publish`."""


class VectorIndex(Protocol):
    """Passages and their vectors, published in generations, searched by inner product."""

    @property
    def metadata_columns(self) -> Mapping[str, MetadataType]:
        """The columns a filter may name, with their types."""

    def version(self) -> IndexVersion:
        """The live generation. Raises IndexNotFound before the first publish."""

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
        """The k best passages `access` may see that satisfy `where`, best first.

        vector: float32 (dim,), L2-normalised, so that scores are cosines; needed by `ann` and
        `hybrid`. text: needed by `full_text` (scores are BM25) and `hybrid` (reciprocal rank
        fusion of both, weighted). Fewer than k hits means that fewer than k passages qualify: for
        full text those that hold a word of `text`. Raises InvalidQuery for a k outside 1..MAX_K,
        a missing vector or text, a wrong dimension, or a vector that is not finite;
        IndexNotFound.
        """

    def documents(self) -> Mapping[str, str]:
        """Document id to content hash of everything indexed; empty before the first publish."""

    def publish(
        self, delta: IndexDelta, source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """Makes the delta live as one new generation: all of it or, on any error, none of it.

        base: what the delta was made for. Raises IndexMoved where that is not live any more, so
        that a writer that slept through another's change cannot publish over it.
        """


class BrowsableIndex(Protocol):
    """An index that can be read other than by one question at a time."""

    def search_many(
        self,
        queries: NDArray[np.float32],
        *,
        k: int,
        access: Access,
        where: Filter | None = None,
    ) -> Matches:
        """The k nearest to each of float32 (n, dim) queries; passages are read on demand."""

    def count(self) -> tuple[int, int]:
        """How many documents and how many passages there are."""

    def scan(self, *, after: str | None, limit: int, access: Access | None) -> Page:
        """The next documents by id, with their passages; `after` None starts at the first.

        access: whose eyes to read with; None is an operator, who sees everything. Raises
        InvalidQuery for a limit outside 1..MAX_K.
        """


class SyncedIndex(VectorIndex, BrowsableIndex, Protocol):
    """An index that one process keeps equal to a table, and others search."""

    def vectors_of(
        self, text_hashes: Collection[str], *, among: Collection[str] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """Text hash to stored vector, of those of these texts that are indexed.

        All that the documents `among` have is found; what any other has, where that is cheap.
        """

    def hashes_of(self, document_ids: Collection[str]) -> dict[str, str]:
        """Document id to content hash, of those of these documents that are indexed."""

    def staging(self, wanted: Mapping[str, str]) -> Staging:
        """Begins a large change, or takes up one that was cut off: part by part, then published.

        wanted: id and content hash of every document it is to write. Only under the lease.
        """

    def lease(self) -> AbstractContextManager[None]:
        """Held through a sync, from reading what is indexed to publishing: one sync at a time.

        The index is refreshed by then. Raises IndexBusy at once where somebody else syncs.
        """

    def refresh(self) -> bool:
        """Moves to what was published since; says whether there was anything.

        Raises what opening the index raises, and then goes on with what it has.
        """


class WritableIndex(VectorIndex, Protocol):
    """An index whose changes are searchable at once, before they are published."""

    def upsert(self, delta: IndexDelta, *, source: SourceVersion | None = None) -> IndexVersion:
        """Makes the change searchable, all of it at once, and durable where the index is.

        Every document replaces what it was before; of two upserts the later one wins. source:
        the table state this leads to. Raises InvalidDelta, or IndexNotFound before the first
        publish.
        """

    def delete(
        self, document_ids: Collection[str], *, source: SourceVersion | None = None
    ) -> IndexVersion:
        """Takes these documents out at once; ids that are not there change nothing."""

    def flush(self) -> IndexVersion:
        """Publishes the changes so far as one generation; nothing to publish, nothing is done."""

    def close(self) -> None:
        """Ends writing; the next writer may begin."""
