"""Writing a generation: beside, synced, renamed, and only then named by CURRENT."""

import shutil
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.checks import check_delta
from vector_index.disk import link_or_copy, replace_text, sync_folder, sync_tree
from vector_index.fulltext import dead_share, extend_fulltext
from vector_index.generation import FULLTEXT, Generation
from vector_index.kinds import KINDS, KindName, SegmentVectors, choose_kind, min_rows
from vector_index.manifest import (
    IndexSettings,
    Manifest,
    SegmentEntry,
    list_files,
    write_manifest,
)
from vector_index.passages import IndexDelta, SourceVersion
from vector_index.segment import (
    Segment,
    immutable_files,
    write_segment,
    write_tombstones,
)

CURRENT = "CURRENT"
GENERATIONS = "generations"
KEPT_GENERATIONS = 2
# Past either bound the live rows are written into one segment: searches then stay one scan,
# and deleted text leaves the disk with the generations that still name it.
MAX_SEGMENTS = 8
# The same share bounds the deleted passages that full text still stores and counts.
MAX_DEAD_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment of the generation being written: an old one's files, or new content."""

    id: str
    passages: pa.Table
    documents: pa.Table
    deleted: NDArray[np.int64]
    inherited: bool
    kind: KindName
    vectors: NDArray[np.float32] | None = None


def publish_delta(
    home: Path,
    settings: IndexSettings,
    parent: Generation | None,
    delta: IndexDelta,
    source: SourceVersion,
) -> Path:
    """Publishes parent plus delta as the next generation and returns its folder.

    The caller holds the writer's lock. After a crash at any point the index is exactly the
    parent or exactly the new generation.
    """
    check_delta(delta, settings.embedder.dim)
    parts = _parts(settings, parent, delta)
    generations = home / GENERATIONS
    generations.mkdir(parents=True, exist_ok=True)
    draft = generations / f".draft-{uuid.uuid4().hex}"
    try:
        manifest = _write(draft, settings, parent, parts, delta, source)
        sync_tree(draft)
        final = generations / manifest.generation
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(generations)
    replace_text(home / CURRENT, manifest.generation)
    _prune(generations, keep=manifest)
    return final


def kept_generations(generations: Path) -> list[Path]:
    """The folders of complete generations, newest first."""
    if not generations.is_dir():
        return []
    entries = (entry for entry in generations.iterdir() if _is_generation(entry))
    return sorted(entries, key=lambda entry: -_number(entry.name))


def next_number(generations: Path) -> int:
    """One more than any generation that was ever completed here and is still kept."""
    return max((_number(entry.name) for entry in kept_generations(generations)), default=0) + 1


def segment_kind(wanted: KindName | Literal["auto"], rows: int, dim: int) -> KindName:
    """How a segment of so many vectors is stored in an index of the wanted kind.

    `flat` where the kind cannot train on so few rows; the manifest says it for each segment.
    """
    if wanted == "auto":
        return choose_kind(rows, dim, memory_bytes=None).kind
    return wanted if rows >= min_rows(wanted) else "flat"


def _parts(settings: IndexSettings, parent: Generation | None, delta: IndexDelta) -> list[_Part]:
    replaced = delta.documents["document_id"].to_pylist()
    gone = pa.array([*replaced, *sorted(delta.removed)], pa.string())
    parts = [_inherit(segment, gone) for segment in parent.segments] if parent else []
    parts = [part for part in parts if len(part.deleted) < part.documents.num_rows]
    fresh = _Part(
        id=uuid.uuid4().hex[:12],
        passages=delta.passages,
        documents=delta.documents,
        deleted=np.empty(0, np.int64),
        inherited=False,
        kind=segment_kind(settings.kind, *delta.vectors.shape),
        vectors=delta.vectors,
    )
    if parent is not None and _needs_merge(parts):
        return [_merge(settings, parent, parts, fresh)]
    return [*parts, fresh] if delta.documents.num_rows or not parts else parts


def _inherit(segment: Segment, gone: pa.Array) -> _Part:
    deleted = segment.without(gone)
    return _Part(
        segment.id, segment.passages, segment.documents, deleted, True, segment.vectors.kind
    )


def _needs_merge(parts: list[_Part]) -> bool:
    dead = sum(len(part.deleted) for part in parts)
    total = sum(part.documents.num_rows for part in parts)
    return len(parts) >= MAX_SEGMENTS or (total > 0 and dead / total > MAX_DEAD_SHARE)


def _merge(settings: IndexSettings, parent: Generation, parts: list[_Part], fresh: _Part) -> _Part:
    """Everything live in the inherited parts, and the fresh part, as one new part."""
    by_id = {segment.id: segment for segment in parent.segments}
    tables, documents, vectors = [], [], []
    for part in parts:
        old = by_id[part.id]
        survivor = replace(old, deleted=part.deleted)
        live = survivor.live
        rows = np.arange(old.vectors.count) if live is None else np.flatnonzero(live)
        tables.append(old.passages.take(pa.array(rows)))
        documents.append(survivor.live_documents)
        vectors.append(old.vectors.reconstruct(rows))
    assert fresh.vectors is not None
    merged = np.concatenate([*vectors, fresh.vectors])
    return _Part(
        id=fresh.id,
        passages=pa.concat_tables([*tables, fresh.passages]),
        documents=pa.concat_tables([*documents, fresh.documents]),
        deleted=fresh.deleted,
        inherited=False,
        kind=segment_kind(settings.kind, *merged.shape),
        vectors=merged,
    )


def _write(
    draft: Path,
    settings: IndexSettings,
    parent: Generation | None,
    parts: list[_Part],
    delta: IndexDelta,
    source: SourceVersion,
) -> Manifest:
    draft.mkdir()
    for part in parts:
        _write_part(draft, parent, part)
    _write_fulltext(draft / FULLTEXT, parent, parts, delta)
    entries = tuple(
        SegmentEntry(p.id, p.kind, p.passages.num_rows, p.documents.num_rows, len(p.deleted))
        for p in parts
    )
    manifest = Manifest(
        format_version=2,
        number=next_number(draft.parent),
        parent=parent.manifest.generation if parent else None,
        created_at=datetime.now(UTC),
        settings=settings,
        source=source,
        segments=entries,
        passages=sum(_count_live(part) for part in parts),
        documents=sum(entry.documents - entry.deleted for entry in entries),
        files=list_files(draft),
    )
    write_manifest(manifest, draft)
    return manifest


def _write_part(draft: Path, parent: Generation | None, part: _Part) -> None:
    if part.inherited:
        assert parent is not None
        for path in immutable_files(parent.folder, part.id):
            link_or_copy(path, draft / path.relative_to(parent.folder))
    else:
        assert part.vectors is not None
        vectors = KINDS[part.kind].build(part.vectors, like=_trained(parent, part.kind))
        write_segment(draft, part.id, vectors, part.passages, part.documents)
    write_tombstones(draft, part.id, part.deleted)


def _trained(parent: Generation | None, kind: KindName) -> SegmentVectors | None:
    """The largest segment of that kind: its training can serve the next ones too."""
    of_kind = [s.vectors for s in parent.segments if s.vectors.kind == kind] if parent else []
    return max(of_kind, key=lambda vectors: vectors.count, default=None)


def _write_fulltext(
    folder: Path, parent: Generation | None, parts: list[_Part], delta: IndexDelta
) -> None:
    gone = [*delta.documents["document_id"].to_pylist(), *sorted(delta.removed)]
    if parent is None:
        extend_fulltext(folder, parent=None, passages=delta.passages, gone=())
    elif dead_share(parent.folder / FULLTEXT) > MAX_DEAD_SHARE:
        live = pa.concat_tables([_live_table(part) for part in parts])
        extend_fulltext(folder, parent=None, passages=live, gone=())
    else:
        extend_fulltext(folder, parent=parent.folder / FULLTEXT, passages=delta.passages, gone=gone)


def _count_live(part: _Part) -> int:
    """Counted on the keys: the passages' text is not touched."""
    return int(part.passages.num_rows) if not len(part.deleted) else pc.sum(_is_live(part)).as_py()


def _live_table(part: _Part) -> pa.Table:
    return part.passages.filter(_is_live(part)) if len(part.deleted) else part.passages


def _is_live(part: _Part) -> pa.ChunkedArray:
    gone = part.documents["document_id"].take(pa.array(part.deleted)).combine_chunks()
    return pc.invert(pc.is_in(part.passages["document_id"], value_set=gone))


def _prune(generations: Path, *, keep: Manifest) -> None:
    """Removes drafts of crashed writers and generations older than the kept ones.

    Readers that still map an old file keep it until they let go: the kernel holds the inode.
    """
    kept = {keep.generation, keep.parent}
    kept |= {entry.name for entry in kept_generations(generations)[:KEPT_GENERATIONS]}
    for entry in generations.iterdir():
        if entry.name not in kept:
            shutil.rmtree(entry, ignore_errors=True)


def _is_generation(entry: Path) -> bool:
    return entry.is_dir() and entry.name.split("-", 1)[0].isdigit()


def _number(name: str) -> int:
    return int(name.split("-", 1)[0])
