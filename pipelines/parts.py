"""Changed rows on their way into an index: read, cut, embedded, and handed on in parts."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.rows import passages_of, vectors_in
from pipelines.sources.protocol import Snapshot
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

    rows: as `Changes.rows`. embedded: distinct texts sent to the embedder; passages: rows made.
    """

    snapshot: Snapshot
    hashes: Mapping[str, str]
    metadata: Mapping[str, MetadataType]
    embedder: Embedder
    chunk: Chunker
    stored: VectorsOf
    rows: tuple[pa.RecordBatch, ...] | None = None
    on_progress: Progress | None = None
    embedded: int = 0
    passages: int = 0
    done: int = 0
    _fresh: dict[str, NDArray[np.float32]] = field(default_factory=dict)

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
        if not self.hashes:
            return
        for batch in self._rows():
            for first in range(0, batch.num_rows, _BATCH_DOCUMENTS):
                yield self._delta(batch.slice(first, _BATCH_DOCUMENTS))

    def _rows(self) -> Iterator[pa.RecordBatch]:
        """The rows of the documents to write."""
        if self.rows is None:
            yield from self.snapshot.rows(self.hashes.keys())
            return
        wanted = pa.array(self.hashes.keys(), pa.string())
        for batch in self.rows:
            found = batch.filter(pc.is_in(batch.column(self.snapshot.mapping.key), wanted))
            if found.num_rows:
                yield found

    def _delta(self, batch: pa.RecordBatch) -> IndexDelta:
        mapping = self.snapshot.mapping
        table, owners = passages_of(batch, mapping, self.chunk, dict(self.metadata))
        keys = batch.column(mapping.key).to_pylist()
        if mapping.vector:
            vectors = vectors_in(batch, mapping, self.embedder.info.dim)[owners]
        else:
            vectors = self._vectors(table, keys)
        self.passages += table.num_rows
        self.done += len(keys)
        self._report(0)
        columns = [keys, [self.hashes[key] for key in keys]]
        documents = pa.table([pa.array(c, pa.string()) for c in columns], schema=DOCUMENT_SCHEMA)
        return IndexDelta(documents, table, vectors, frozenset())

    def _vectors(self, table: pa.Table, keys: list[str]) -> NDArray[np.float32]:
        hashes = table["text_hash"].to_pylist()
        known = dict(self._fresh)
        known.update(self.stored(set(hashes) - known.keys(), keys))
        texts = {
            one: text
            for one, text in zip(hashes, table["text"].to_pylist(), strict=True)
            if one not in known
        }
        fresh = self._embed(list(texts.values()), len(keys))
        self._remember(dict(zip(texts, fresh, strict=True)))
        known.update(zip(texts, fresh, strict=True))
        vectors = np.empty((len(hashes), self.embedder.info.dim), np.float32)
        for row, one in enumerate(hashes):
            vectors[row] = known[one]
        return vectors

    def _embed(self, texts: list[str], documents: int) -> NDArray[np.float32]:
        done = 0

        def count(newly: int) -> None:
            nonlocal done
            done += newly
            self._report(documents * done // len(texts))

        if not texts:
            return np.empty((0, self.embedder.info.dim), np.float32)
        self.embedded += len(texts)
        return self.embedder.embed_passages(texts, on_progress=count)

    def _remember(self, fresh: Mapping[str, NDArray[np.float32]]) -> None:
        self._fresh.update(fresh)
        for old in list(islice(self._fresh, max(0, len(self._fresh) - _REMEMBERED))):
            del self._fresh[old]

    def _report(self, under_way: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self.done + under_way, len(self.hashes))


def joined(deltas: list[IndexDelta]) -> IndexDelta:
    """One change that is all of these, in their order. There is at least one."""
    return IndexDelta(
        pa.concat_tables([delta.documents for delta in deltas]),
        pa.concat_tables([delta.passages for delta in deltas]),
        np.concatenate([delta.vectors for delta in deltas]),
        frozenset().union(*(delta.removed for delta in deltas)),
    )
