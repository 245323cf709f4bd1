"""What an index consists of, for people and dashboards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vector_index.generation import GENERATIONS, is_generation, kept_generations
from vector_index.layer import Layer
from vector_index.manifest import Manifest, read_manifest
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
    live = next((folder for folder in kept if folder.name == view.version.generation), None)
    sizes = {} if live is None else _segment_sizes(read_manifest(live))
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


def _segment_sizes(manifest: Manifest) -> dict[str, int]:
    return {
        entry.id: sum(file.size_bytes for file in immutable_files(manifest, entry.id).values())
        for entry in manifest.segments
    }


def _size_on_disk(home: Path) -> int:
    inodes: dict[int, int] = {}
    for entry in (home / GENERATIONS).iterdir():
        if is_generation(entry):
            for path in entry.rglob("*"):
                status = path.stat()
                if path.is_file():
                    inodes[status.st_ino] = status.st_size
    return sum(inodes.values())
