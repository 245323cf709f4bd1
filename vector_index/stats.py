"""What an index consists of, for people and dashboards."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vector_index.errors import IndexCorrupt
from vector_index.generation import GENERATIONS, kept_generations
from vector_index.layer import Layer
from vector_index.manifest import read_manifest
from vector_index.segment import immutable_files, segment_kind
from vector_index.view import View


@dataclass(frozen=True, slots=True)
class SegmentStats:
    """One segment. size_bytes: its files, vectors and text. dead_passages: not searched.

    reason: why it is stored as `kind`, or would be stored as another if it were written now.
    """

    id: str
    kind: str
    reason: str
    documents: int
    passages: int
    dead_documents: int
    dead_passages: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IndexStats:
    """An index at one sequence number.

    documents, passages: those that live; tail_passages of them are in memory only (and in the
    log). size_bytes: on disk, files shared by generations counted once. kept: the generations
    that can be rolled back to, newest first.
    """

    generation: str
    number: int
    sequence: int
    documents: int
    passages: int
    tail_documents: int
    tail_passages: int
    segments: tuple[SegmentStats, ...]
    size_bytes: int
    kept: tuple[str, ...]


def read_stats(home: Path, view: View) -> IndexStats:
    """The view's stats, and those of the folder it belongs to."""
    sequence = view.version.sequence
    tails = [part.count(sequence) for part in view.parts if not isinstance(part, Layer)]
    documents, passages = view.count()
    kept = kept_generations(home)
    sizes = _segment_sizes(home / GENERATIONS / view.version.generation)
    return IndexStats(
        generation=view.version.generation,
        number=view.version.number,
        sequence=sequence,
        documents=documents,
        passages=passages,
        tail_documents=sum(tail[0] for tail in tails),
        tail_passages=sum(tail[1] for tail in tails),
        segments=tuple(_segments(view, sizes)),
        size_bytes=_size_on_disk(home),
        kept=tuple(folder.name for folder in kept),
    )


def _segments(view: View, sizes: dict[str, int]) -> Iterator[SegmentStats]:
    layers = [part for part in view.parts if isinstance(part, Layer)]
    in_segments = sum(layer.segment.vectors.count for layer in layers)
    for part in layers:
        segment = part.segment
        dead = part.deaths.positions(view.version.sequence)
        choice = segment_kind(view.settings, segment.vectors.count, of=in_segments)
        again = "" if choice.kind == segment.vectors.kind else f"{choice.kind} if written now: "
        yield SegmentStats(
            id=segment.id,
            kind=segment.vectors.kind,
            reason=again + choice.reason,
            documents=segment.documents.num_rows,
            passages=segment.vectors.count,
            dead_documents=len(dead),
            dead_passages=segment.count_rows(dead),
            size_bytes=sizes.get(segment.id, 0),
        )


def _segment_sizes(folder: Path) -> dict[str, int]:
    try:
        manifest = read_manifest(folder)
    except IndexCorrupt:
        if folder.is_dir():
            raise
        return {}  # pruned: the view is of an older generation
    return {
        entry.id: sum(file.size_bytes for file in immutable_files(manifest, entry.id).values())
        for entry in manifest.segments
    }


def _size_on_disk(home: Path) -> int:
    inodes: dict[int, int] = {}
    folders = [folder for entry in kept_generations(home) for folder in os.walk(entry)]
    for folder, _, names in folders:
        for name in names:
            with suppress(FileNotFoundError):  # a writer prunes meanwhile
                status = os.stat(os.path.join(folder, name))
                inodes[status.st_ino] = status.st_size
    return sum(inodes.values())
