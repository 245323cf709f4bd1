"""Changed rows on their way into an index: read, cut, embedded, and handed on in parts."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.errors import BadVectors
from pipelines.isolation import Failure
from pipelines.reasons import Reason
from pipelines.rows import passages_of
from pipelines.setting_aside import SettingAside
from pipelines.sources.protocol import Snapshot
from pipelines.sources.vectors import vectors_of
from vector_index.held import joined, without
from vector_index.passages import DOCUMENT_SCHEMA, IndexDelta, MetadataType

Progress = Callable[[int, int], None]
"""Gets (documents done, documents to do), many times a second at most."""

VectorsOf = Callable[[Collection[str], Collection[str]], Mapping[str, NDArray[np.float32]]]
"""Stored vectors of these texts, by text hash, looked for at least among these documents."""

# Documents cut and embedded at a time, and passages handed on at a time.
_BATCH_DOCUMENTS = 1024
PART_PASSAGES = 65_536
# Texts whose vectors are remembered in case a later document repeats them.
_REMEMBERED = 20_000


@dataclass(slots=True)
class Work:
    """One run over the changed rows of a snapshot; afterwards it says what it came to.

    rows: as `Changes.rows`. aside: takes the rows that cannot be indexed; without it, one such row
    ends the run. embedded: distinct texts sent to the embedder; passages: rows made.
    """

    snapshot: Snapshot
    hashes: Mapping[str, str]
    metadata: Mapping[str, MetadataType]
    embedder: Embedder
    chunk: Chunker
    stored: VectorsOf
    rows: tuple[pa.RecordBatch, ...] | None = None
    aside: SettingAside | None = None
    on_progress: Progress | None = None
    embedded: int = 0
    passages: int = 0
    done: int = 0
    _skipped: frozenset[str] = frozenset()
    _fresh: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def skip(self, keys: Collection[str]) -> None:
        """These documents are there already. Before anything else is asked for."""
        self.done = len(keys)
        self._skipped = frozenset(keys)

    def parts(self, *, passages: int = PART_PASSAGES) -> Iterator[IndexDelta]:
        """The documents to write, in parts of some `passages` passages; no more is in memory."""
        waiting: list[IndexDelta] = []
        for delta in self._deltas():
            waiting.append(delta)
            if sum(one.passages.num_rows for one in waiting) >= passages:
                yield joined(waiting)
                waiting = []
        if waiting:
            yield joined(waiting)

    def _deltas(self) -> Iterator[IndexDelta]:
        if not self.hashes.keys() - self._skipped:
            return
        for batch in self._rows():
            for first in range(0, batch.num_rows, _BATCH_DOCUMENTS):
                yield self._delta(batch.slice(first, _BATCH_DOCUMENTS))

    def _rows(self) -> Iterator[pa.RecordBatch]:
        """The rows of the documents to write."""
        if self.rows is None:
            yield from self.snapshot.rows(self.hashes.keys() - self._skipped)
            return
        wanted = pa.array(self.hashes.keys() - self._skipped, pa.string())
        for batch in self.rows:
            found = batch.filter(pc.is_in(batch.column(self.snapshot.mapping.key), wanted))
            if found.num_rows:
                yield found

    def _delta(self, batch: pa.RecordBatch) -> IndexDelta:
        self.done += batch.num_rows
        batch = batch if self.aside is None else self.aside.sift(batch)
        mapping = self.snapshot.mapping
        given = None
        if mapping.vector:
            batch, given = self._given_vectors(batch, mapping.vector)
        table, owners = passages_of(batch, mapping, self.chunk, dict(self.metadata))
        keys = batch.column(mapping.key).to_pylist()
        vectors = self._vectors(table, keys) if given is None else given[owners]
        delta = IndexDelta(self._documents(keys), table, vectors, frozenset())
        delta = delta if self.aside is None else without(delta, self.aside.rejected)
        self.passages += delta.passages.num_rows
        self._report(0)
        return delta

    def _given_vectors(
        self, batch: pa.RecordBatch, column: str
    ) -> tuple[pa.RecordBatch, NDArray[np.float32]]:
        """The rows whose vector can be used, with it: float32 (rows, dim)."""
        try:
            return batch, vectors_of(batch, column, self.embedder.info.dim)
        except BadVectors as exc:
            if self.aside is None:
                raise
            keys = batch.column(self.snapshot.mapping.key).to_pylist()
            for row in exc.rows:
                self.aside.reject(keys[row], Failure(row, Reason.BAD_VECTOR, str(exc)), "")
            good = np.setdiff1d(np.arange(batch.num_rows), exc.rows)
        return self._given_vectors(batch.take(pa.array(good)), column)

    def _documents(self, keys: list[str]) -> pa.Table:
        columns = [keys, [self.hashes[key] for key in keys]]
        return pa.table([pa.array(c, pa.string()) for c in columns], schema=DOCUMENT_SCHEMA)

    def _vectors(self, table: pa.Table, keys: list[str]) -> NDArray[np.float32]:
        """Those of texts that have none are zeros, and their documents are set aside."""
        hashes = table["text_hash"].to_pylist()
        known = dict(self._fresh)
        known.update(self.stored(set(hashes) - known.keys(), keys))
        texts = {
            one: text
            for one, text in zip(hashes, table["text"].to_pylist(), strict=True)
            if one not in known
        }
        fresh = self._fresh_vectors(texts, table, len(keys))
        self._remember(fresh)
        known.update(fresh)
        vectors = np.zeros((len(hashes), self.embedder.info.dim), np.float32)
        for row, one in enumerate(hashes):
            if one in known:
                vectors[row] = known[one]
        return vectors

    def _fresh_vectors(
        self, texts: Mapping[str, str], table: pa.Table, documents: int
    ) -> dict[str, NDArray[np.float32]]:
        """By text hash. texts: text hash to text."""
        if not texts:
            return {}
        self.embedded += len(texts)

        def embed(some: Sequence[str]) -> NDArray[np.float32]:
            return self._embed(list(some), documents)

        if self.aside is None:
            return dict(zip(texts, embed(list(texts.values())), strict=True))
        vectors, failures = self.aside.embed(embed, list(texts.values()))
        failed = {list(texts)[failure.position]: failure for failure in failures}
        for key, one in zip(
            table["document_id"].to_pylist(), table["text_hash"].to_pylist(), strict=True
        ):
            if one in failed:
                self.aside.reject(key, failed[one], texts[one])
        pairs = zip(texts, vectors, strict=True)
        return {one: vector for one, vector in pairs if one not in failed}

    def _embed(self, texts: list[str], documents: int) -> NDArray[np.float32]:
        done = 0

        def count(newly: int) -> None:
            nonlocal done
            done += newly
            self._report(documents * done // len(texts))

        return self.embedder.embed_passages(texts, on_progress=count)

    def _remember(self, fresh: Mapping[str, NDArray[np.float32]]) -> None:
        self._fresh.update(fresh)
        for old in list(islice(self._fresh, max(0, len(self._fresh) - _REMEMBERED))):
            del self._fresh[old]

    def _report(self, under_way: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self.done + under_way, len(self.hashes))
