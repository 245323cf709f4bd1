"""Sync: make the index equal to the table, embedding only what changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.delta_source import ColumnMapping, DeltaSource, Snapshot
from vector_index import building
from vector_index.generation import published
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    IndexDelta,
    IndexVersion,
    Passage,
    passages_to_table,
)
from vector_index.protocol import SyncedIndex

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. `embedded` counts texts sent to the embedder, not rows."""

    version: IndexVersion
    changed: int
    removed: int
    passages: int
    embedded: int
    is_noop: bool


def sync(
    source: DeltaSource,
    index: SyncedIndex,
    embedder: Embedder,
    chunk: Chunker,
    *,
    on_progress: Progress | None = None,
) -> SyncReport:
    """Publishes one generation that equals the table's newest version.

    Rows are compared by content hash with what is indexed, so the result is right whatever
    happened to the table between two syncs; only text that is new is embedded. on_progress
    gets (texts embedded, texts to embed). Raises PipelineError or VectorIndexError, and then
    the old generation still serves.
    """
    indexed = index.documents()
    if indexed and index.version().source == source.version():
        return SyncReport(index.version(), 0, 0, 0, 0, is_noop=True)
    snapshot = source.snapshot()
    changed = [key for key, value in snapshot.hashes.items() if indexed.get(key) != value]
    removed = frozenset(indexed.keys() - snapshot.hashes.keys())
    known = index.vectors_by_text(frozenset(changed) & indexed.keys())
    passages = _passages(snapshot, changed, source.mapping, chunk)
    vectors, embedded = _embed(passages, known, embedder, on_progress)
    delta = IndexDelta(
        documents=_documents(changed, snapshot.hashes),
        passages=passages_to_table(passages, index.metadata_columns),
        vectors=vectors,
        removed=removed,
    )
    version = index.publish(delta, snapshot.source)
    return SyncReport(version, len(changed), len(removed), len(passages), embedded, is_noop=False)


def rebuild(
    source: DeltaSource,
    home: Path,
    settings: IndexSettings,
    embedder: Embedder,
    chunk: Chunker,
    *,
    on_progress: Progress | None = None,
) -> SyncReport:
    """Builds the table's index anew under `settings` beside the live one, then switches to it.

    The live generation serves until the new one is complete, and is kept for a rollback. Stored
    vectors are used again only where the same embedder made them of the same text. on_progress
    and errors as `sync`; IndexNotFound where nothing has been published.
    """
    snapshot = source.snapshot()
    keys = list(snapshot.hashes)
    passages = _passages(snapshot, keys, source.mapping, chunk)
    vectors, embedded = _embed(passages, _stored(home, settings), embedder, on_progress)
    content = IndexDelta(
        documents=_documents(keys, snapshot.hashes),
        passages=passages_to_table(passages, settings.metadata_columns),
        vectors=vectors,
        removed=frozenset(),
    )
    version = building.rebuild(home, settings, content=(content, snapshot.source))
    return SyncReport(version, len(keys), 0, len(passages), embedded, is_noop=False)


def _stored(home: Path, settings: IndexSettings) -> Mapping[str, NDArray[np.float32]]:
    manifest = published(home)
    if manifest is None or manifest.settings.embedder != settings.embedder:
        return {}
    index = LocalIndex(home, manifest.settings)
    return index.vectors_by_text(frozenset(index.documents()))


def _documents(changed: list[str], hashes: Mapping[str, str]) -> pa.Table:
    columns = [changed, [hashes[key] for key in changed]]
    return pa.table([pa.array(c, pa.string()) for c in columns], schema=DOCUMENT_SCHEMA)


def _passages(
    snapshot: Snapshot, changed: list[str], mapping: ColumnMapping, chunk: Chunker
) -> list[Passage]:
    """The passages of the changed documents, in the order of `changed`."""
    wanted = pc.is_in(
        snapshot.rows[mapping.key].cast(pa.string()), value_set=pa.array(changed, pa.string())
    )
    rows = snapshot.rows.filter(wanted).to_pylist()
    return [passage for row in rows for passage in _document_passages(row, mapping, chunk)]


def _document_passages(
    row: Mapping[str, object], mapping: ColumnMapping, chunk: Chunker
) -> list[Passage]:
    groups = row[mapping.groups] if mapping.groups else None
    title = str(row[mapping.title] or "")
    return [
        Passage(
            document_id=str(row[mapping.key]),
            ordinal=ordinal,
            title=title,
            text=piece.text,
            start=piece.start,
            end=piece.end,
            text_hash=piece.text_hash,
            tenant=row[mapping.tenant] if mapping.tenant else None,  # type: ignore[arg-type]
            allowed_groups=None if groups is None else tuple(groups),  # type: ignore[arg-type]
            updated_at=row[mapping.updated_at] if mapping.updated_at else None,  # type: ignore[arg-type]
            metadata={name: row[name] for name in mapping.metadata},  # type: ignore[misc]
        )
        for ordinal, piece in enumerate(chunk(str(row[mapping.text] or "")))
    ]


def _embed(
    passages: list[Passage],
    known: Mapping[str, NDArray[np.float32]],
    embedder: Embedder,
    on_progress: Progress | None,
) -> tuple[NDArray[np.float32], int]:
    """Vectors of all passages, and how many distinct texts had to be embedded for them."""
    texts = {p.text_hash: p.text for p in passages if p.text_hash not in known}
    done = 0

    def count(newly: int) -> None:
        nonlocal done
        done += newly
        if on_progress is not None:
            on_progress(done, len(texts))

    fresh = embedder.embed_passages(list(texts.values()), on_progress=count)
    by_hash = {**known, **dict(zip(texts, fresh, strict=True))}
    vectors = np.empty((len(passages), embedder.info.dim), np.float32)
    for row, passage in enumerate(passages):
        vectors[row] = by_hash[passage.text_hash]
    return vectors, len(texts)
