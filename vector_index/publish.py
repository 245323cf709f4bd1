"""Writing a generation: beside, synced, renamed, and only then named by CURRENT."""

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index import disk
from vector_index.errors import WriteFailed, WriterClosed
from vector_index.fulltext import extend_fulltext
from vector_index.generation import (
    CURRENT,
    FULLTEXT,
    GENERATIONS,
    Generation,
    is_generation,
    kept_generations,
    number_of,
    read_current,
    same_files,
)
from vector_index.kinds import SegmentVectors
from vector_index.manifest import (
    CHECKSUM,
    MANIFEST,
    FileEntry,
    IndexSettings,
    Manifest,
    SegmentEntry,
    file_entry,
    write_manifest,
)
from vector_index.passages import SourceVersion
from vector_index.segment import (
    Content,
    Segment,
    build_vectors,
    new_segment_id,
    write_segment,
    write_tombstones,
)

# From so many passages on, full text is written in a thread beside the vectors.
_BESIDE_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Inherited:
    """A segment that is on the disk already. deleted: positions of its dead documents."""

    segment: Segment
    deleted: NDArray[np.int64]
    folder: Path
    files: Mapping[str, FileEntry]


@dataclass(frozen=True, slots=True)
class TextChange:
    """How the full text of a generation comes from its parent's; parent None begins anew.

    gone: ids of documents to forget. passages: to take in, in place of what their documents had.
    """

    parent: Generation | None
    gone: Sequence[str]
    passages: pa.Table


@dataclass(frozen=True, slots=True)
class Plan:
    """A generation to be written."""

    settings: IndexSettings
    source: SourceVersion
    sequence: int
    parent: str | None
    inherited: Sequence[Inherited]
    fresh: Sequence[Content]
    text: TextChange


def publish(home: Path, plan: Plan) -> Manifest:
    """Makes the plan the live generation.

    The caller holds the writer's lock. After a crash at any point the index is exactly what it
    was or exactly the new generation. Raises WriteFailed when the disk refuses a write.
    """
    generations = home / GENERATIONS
    draft = generations / f".draft-{uuid.uuid4().hex}"
    final = None
    try:
        generations.mkdir(parents=True, exist_ok=True)
        manifest = _write(draft, plan)
        final = generations / manifest.generation
        draft.rename(final)
        disk.sync_folder(generations)
        disk.replace_text(home / CURRENT, manifest.generation)
    except BaseException as exc:
        shutil.rmtree(draft, ignore_errors=True)
        if final is not None:
            if read_current(home) == final.name:
                raise WriterClosed(f"{final.name} is live, but its name may not be synced") from exc
            _remove(final)
        if isinstance(exc, OSError):
            raise WriteFailed(
                f"index {plan.settings.name!r}: a generation could not be written: {exc}; the "
                f"one before it goes on serving"
            ) from exc
        raise
    return manifest


def prune(home: Path, *, live: Manifest, kept: int, pinned: frozenset[str] = frozenset()) -> None:
    """Removes drafts of crashed writers and generations past the newest `kept`.

    The live one, its parent and the pinned names stay. Readers that still map a removed file
    keep it until they let go: the kernel holds the inode.
    """
    names = {live.generation, *pinned}
    names |= {entry.name for entry in kept_generations(home)[:kept]}
    if live.parent is not None and kept > 1:
        names.add(live.parent)
    for entry in (home / GENERATIONS).iterdir():
        if entry.name not in names:
            _remove(entry)


def next_number(home: Path) -> int:
    """One more than any generation that was ever completed here and is still kept."""
    return max((number_of(entry.name) for entry in kept_generations(home)), default=0) + 1


def _write(draft: Path, plan: Plan) -> Manifest:
    draft.mkdir()
    linked = _link(draft, plan.inherited)
    for part in plan.inherited:
        write_tombstones(draft, part.segment.id, part.deleted)
    entries, shared = _write_content(draft, plan)
    linked |= shared
    written = sync_new(draft, linked)
    dead_rows = sum(part.segment.count_rows(part.deleted) for part in plan.inherited)
    manifest = Manifest(
        format_version=2,
        number=next_number(draft.parent.parent),
        parent=plan.parent,
        created_at=datetime.now(UTC),
        settings=plan.settings,
        source=plan.source,
        sequence=plan.sequence,
        segments=tuple(entries),
        passages=sum(entry.passages for entry in entries) - dead_rows,
        documents=sum(entry.documents - entry.deleted for entry in entries),
        files={**linked, **written},
    )
    write_manifest(manifest, draft)
    for name in (MANIFEST, CHECKSUM):
        disk.sync_file(draft / name)
    disk.sync_folder(draft)
    return manifest


def _write_content(draft: Path, plan: Plan) -> tuple[list[SegmentEntry], dict[str, FileEntry]]:
    """Writes segments and full text; returns the segments, and the text's files that are shared.

    At once, where there is much: FAISS and tantivy leave the interpreter to each other.
    """
    inherited = list(map(_entry, plan.inherited))
    if plan.text.passages.num_rows < _BESIDE_ROWS:
        return [*inherited, *_write_fresh(draft, plan)], _extend_text(draft, plan.text)
    with ThreadPoolExecutor(1, thread_name_prefix="full-text") as pool:
        text = pool.submit(_extend_text, draft, plan.text)
        return [*inherited, *_write_fresh(draft, plan)], text.result()


def _write_fresh(draft: Path, plan: Plan) -> Iterator[SegmentEntry]:
    """Writes the new segments; no more than one of them is built in memory at a time."""
    like = _largest(plan.inherited)
    rows_in_all = sum(part.segment.vectors.count for part in plan.inherited)
    rows_in_all += sum(len(content.vectors) for content in plan.fresh)
    for content in plan.fresh:
        segment_id = new_segment_id()
        vectors = build_vectors(content.vectors, plan.settings, of=rows_in_all, like=like)
        kind = vectors.kind
        write_segment(
            draft,
            segment_id,
            documents=content.documents,
            passages=content.passages,
            vectors=vectors,
        )
        del vectors
        write_tombstones(draft, segment_id, np.empty(0, np.int64))
        rows, documents = content.passages.num_rows, content.documents.num_rows
        yield SegmentEntry(segment_id, kind, rows, documents, 0)


def _link(draft: Path, inherited: Sequence[Inherited]) -> dict[str, FileEntry]:
    """Links the files of older segments; returns those that need no sync and no hash."""
    linked: dict[str, FileEntry] = {}
    for part in inherited:
        for name, entry in part.files.items():
            if disk.link_or_copy(part.folder / name, draft / name):
                linked[name] = entry
    return linked


def _extend_text(draft: Path, change: TextChange) -> dict[str, FileEntry]:
    """Writes the full text; returns those of its files that are the parent's."""
    parent = change.parent
    extend_fulltext(
        draft / FULLTEXT,
        parent=None if parent is None else parent.folder / FULLTEXT,
        passages=change.passages,
        gone=change.gone,
    )
    if parent is None:
        return {}
    shared = same_files(parent, draft)
    return {name: entry for name, entry in shared.items() if name.startswith(f"{FULLTEXT}/")}


def _remove(folder: Path) -> None:
    """Removes a folder of the generations; under its name nobody ever sees half of it."""
    gone = folder
    if is_generation(folder):
        gone = folder.with_name(f".gone-{folder.name}")
        try:
            folder.rename(gone)
        except OSError:  # the next publish tries again
            return
    shutil.rmtree(gone, ignore_errors=True)


def sync_new(folder: Path, linked: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """Syncs every folder, and every file that was not linked; returns the entries of these."""
    written: dict[str, FileEntry] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            disk.sync_folder(path)
        elif name not in linked:
            disk.sync_file(path)
            written[name] = file_entry(path)
    disk.sync_folder(folder)
    return written


def _largest(inherited: Sequence[Inherited]) -> SegmentVectors | None:
    """Whose training a new segment may borrow."""
    return max((p.segment.vectors for p in inherited), key=lambda v: v.count, default=None)


def _entry(part: Inherited) -> SegmentEntry:
    segment = part.segment
    return SegmentEntry(
        segment.id,
        segment.vectors.kind,
        segment.vectors.count,
        segment.documents.num_rows,
        len(part.deleted),
    )
