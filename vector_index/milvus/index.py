"""An index kept by Milvus, for those whose passages outgrow one machine."""

import dataclasses
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_base, check_delta, check_ids, check_queries
from vector_index.errors import IndexBusy, NeverPublished, WriterClosed
from vector_index.filters import Filter
from vector_index.found import Matches, Page, matches_of
from vector_index.manifest import IndexSettings, check_settings
from vector_index.milvus.browsing import Browse
from vector_index.milvus.changes import Changes
from vector_index.milvus.names import collections_of
from vector_index.milvus.searching import Search
from vector_index.milvus.staging import StreamedParts
from vector_index.milvus.state import State, changed, generation_after
from vector_index.milvus.store import MilvusPlace, Store
from vector_index.passages import (
    Access,
    Base,
    IndexDelta,
    IndexVersion,
    MetadataType,
    SearchResult,
    SourceVersion,
    empty_delta,
)
from vector_index.query import EQUAL, LegWeights, QueryType, Wanted

# A reader starts over only when the index changed twice during one search.
_ATTEMPTS = 8

_Found = TypeVar("_Found")


class MilvusIndex:
    """A VectorIndex in three collections of a Milvus server (or of milvus-lite).

    Searches see exactly one state, the newest: after each the state is read once more, and the
    search repeated where the one it used is gone. Access and filters are part of the search in
    Milvus, and every row that comes back is checked again in plain Python.

    A change is visible all at once; how, and what a crash in the middle leaves (the old state,
    exactly, and rows that nobody sees until the next change removes them), is in `changes.py`.
    Making the same change again repairs it. Milvus has no lock to hold: one writer at a time is
    up to whoever deploys. Two threads of one MilvusIndex take turns; another process that
    finished first is noticed (IndexBusy), one that is halfway is not.

    Full text is Milvus's BM25 over the words of title and text as one field, with this room's
    rules for what a word is. Our own indexes score the two fields apart and add up, so scores
    differ, not what is found. Hybrid search fuses by rank, as everywhere.

    What milvus-lite 3.2 does otherwise than a server is said to do, found by trying: it knows no
    templates in expressions, answers BM25 with the negative of the score, counts words segment by
    segment, accepts NaN in a number, and releases collections when it restarts. Nothing here
    depends on the difference. No server has been tried.

    Of more than 4,096 equal scores an arbitrary 4,096 are ordered. Milvus takes 65,535 bytes in a
    field: longer texts are refused (InvalidDelta).
    """

    def __init__(self, place: MilvusPlace, settings: IndexSettings) -> None:
        """Raises StoreMissing, StoreFailed, or the mismatches that `refresh` raises."""
        self._settings = settings
        self._names = collections_of(settings.name)
        self._store = Store(place)
        self._changes = Changes(self._store, settings)
        self._live: State | None = None
        self._is_closed = False
        self._turn, self._syncing = threading.Lock(), threading.Lock()
        self._newest()

    @property
    def metadata_columns(self) -> Mapping[str, MetadataType]:
        return self._settings.metadata_columns

    def refresh(self) -> bool:
        """Reads what is live now; says whether it is another state than before.

        Raises EmbedderMismatch or SettingsMismatch where it was built otherwise than configured.
        """
        before = self._live
        return self._newest() != before

    def version(self) -> IndexVersion:
        return self._published(self._newest()).version()

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
        """As `VectorIndex.search`; also raises StoreFailed."""
        wanted = Wanted(vector, text, mode, k, weights)

        def hits(state: State) -> SearchResult:
            search = Search(self._store, self._settings, state.step, access=access, where=where)
            return SearchResult(search.hits(wanted), state.version())

        return self._at_one_state(hits)

    def search_many(
        self, queries: NDArray[np.float32], *, k: int, access: Access, where: Filter | None = None
    ) -> Matches:
        """The k nearest to each of float32 (n, dim) queries, one search each, of one state."""
        check_queries(queries, self._settings.embedder.dim)

        def found(state: State) -> Matches:
            search = Search(self._store, self._settings, state.step, access=access, where=where)
            wanted = [Wanted(query, None, "ann", k) for query in queries]
            version = state.version()
            return matches_of([SearchResult(search.hits(one), version) for one in wanted], k)

        return self._at_one_state(found)

    def documents(self) -> Mapping[str, str]:
        try:
            return self._at_one_state(lambda state: self._browse(state).documents())
        except NeverPublished:
            return {}

    def vectors_of(
        self, text_hashes: Collection[str], *, among: Collection[str] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """As `SyncedIndex.vectors_of`; of the documents `among` alone."""
        try:
            return self._at_one_state(
                lambda state: self._browse(state).vectors_of(text_hashes, among)
            )
        except NeverPublished:
            return {}

    def hashes_of(self, document_ids: Collection[str]) -> dict[str, str]:
        """Document id to content hash, of those of these documents that are indexed."""
        try:
            return self._at_one_state(lambda state: self._browse(state).hashes_of(document_ids))
        except NeverPublished:
            return {}

    def staging(self, wanted: Mapping[str, str]) -> StreamedParts:
        """As `SyncedIndex.staging`, part by part into Milvus: it does not outlive this process."""
        with self._writing() as live:
            if live is None:
                self._changes.create()
            return StreamedParts(self._changes, self._settings, live, self._finish)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """As `SyncedIndex.lease`, of this object's threads alone: Milvus has no lock to hold.

        Of two processes that sync, both may embed; `publish` with a base refuses the second.
        """
        if not self._syncing.acquire(blocking=False):
            raise IndexBusy(f"another thread is syncing index {self._settings.name!r}")
        try:
            self._newest()
            yield
        finally:
            self._syncing.release()

    def count(self) -> tuple[int, int]:
        """How many documents and how many passages there are."""
        return self._at_one_state(lambda state: self._browse(state).count())

    def scan(self, *, after: str | None, limit: int, access: Access | None) -> Page:
        """The next documents by id, with their passages; `after` None starts at the first.

        access: whose eyes to read with; None is an operator, who sees everything. Raises
        InvalidQuery for a limit outside 1..MAX_K.
        """
        return self._at_one_state(lambda state: self._browse(state).page(after, limit, access))

    def publish(
        self, delta: IndexDelta, source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """As `VectorIndex.publish`; also raises IndexBusy, StoreFailed, WriterClosed."""
        check_delta(delta, self._settings)
        with self._writing() as live:
            check_base(None if live is None else live.version(), base, self._settings.name)
            step = 1 if live is None else live.step + 1
            if live is None:
                self._changes.create()
            self._changes.write(delta, step)
            return self._switch(live, generation_after(live, self._settings, source, step))

    def upsert(self, delta: IndexDelta, *, source: SourceVersion | None = None) -> IndexVersion:
        """Makes the change searchable at once and durable, all of it, before it is published.

        source: the table state this leads to. Raises InvalidDelta, IndexNotFound before the
        first publish, and what `publish` raises.
        """
        check_delta(delta, self._settings)
        with self._writing() as live:
            live = self._published(live)
            gone = self._changes.living(delta.removed, live)
            if not gone and not delta.documents.num_rows and source is None:
                return live.version()
            self._changes.write(dataclasses.replace(delta, removed=frozenset(gone)), live.step + 1)
            return self._switch(live, changed(live, source))

    def delete(
        self, document_ids: Collection[str], *, source: SourceVersion | None = None
    ) -> IndexVersion:
        """Takes these documents out at once; ids that are not there change nothing."""
        check_ids(document_ids)
        columns, dim = self._settings.metadata_columns, self._settings.embedder.dim
        nothing = empty_delta(columns, dim, removed=frozenset(document_ids))
        return self.upsert(nothing, source=source)

    def flush(self) -> IndexVersion:
        """Names the changes so far a generation; nothing new, nothing is done."""
        with self._writing() as live:
            live = self._published(live)
            if live.is_flushed:
                return live.version()
            flushed = generation_after(live, self._settings, live.source, live.step)
            return self._switch(live, flushed)

    def close(self) -> None:
        """Ends writing; searches go on."""
        self._is_closed = True

    @contextmanager
    def _writing(self) -> Iterator[State | None]:
        """The live state, repaired, to build the next one on."""
        with self._turn:
            if self._is_closed:
                raise WriterClosed(f"index {self._settings.name!r} was closed; make another one")
            live = self._newest()
            if live is not None:
                self._changes.repair(live)
            yield live

    def _finish(
        self, parts: StreamedParts, removed: frozenset[str], source: SourceVersion, base: Base
    ) -> IndexVersion:
        """Makes the staged rows live, if they are all there and nobody has changed the index."""
        with self._turn:
            live = self._newest()
            check_base(None if live is None else live.version(), base, self._settings.name)
            parts.check(live)
            self._changes.end([*removed, *parts.document_ids], parts.step)
            to = generation_after(live, self._settings, source, parts.step)
            return self._switch(live, to)

    def _switch(self, live: State | None, to: State) -> IndexVersion:
        self._changes.switch(live, to)
        self._live = to
        return to.version()

    def _at_one_state(self, read: Callable[[State], _Found]) -> _Found:
        """What `read` finds in the newest state, of that state alone."""
        state = self._published(self._live or self._newest())
        for attempt in range(_ATTEMPTS):
            found = read(state)
            newest = self._published(self._newest())
            # Rows of the state before the live one are kept: that one is whole, if not newest.
            if newest == state or (attempt and newest.step <= state.step + 1):
                return found
            state = newest
        raise IndexBusy(
            f"index {self._settings.name!r} changed during each of {_ATTEMPTS} attempts to read "
            "it; make fewer, larger changes"
        )

    def _newest(self) -> State | None:
        """The live state, read from Milvus and checked."""
        state = self._changes.read_state()
        if state is not None and state != self._live:
            self._check(state.settings)
        self._live = state
        return state

    def _published(self, state: State | None) -> State:
        if state is None:
            raise NeverPublished(self._settings.name)
        return state

    def _browse(self, state: State) -> Browse:
        return Browse(self._store, self._settings, state.step)

    def _check(self, built: IndexSettings) -> None:
        names = ", ".join(dataclasses.astuple(self._names))
        fix = f"drop the collections {names} and run `headrace index sync {built.name}` to rebuild"
        check_settings(built, self._settings, fix=fix)
