"""From a writer's state at one sequence number to a generation on the disk, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vector_index.deaths import Deaths
from vector_index.errors import VectorIndexError, WriterClosed
from vector_index.fulltext import TantivyText
from vector_index.generation import GENERATIONS, open_text
from vector_index.layer import Layer
from vector_index.manifest import FileEntry, Manifest
from vector_index.merge import Merge
from vector_index.publish import Inherited, Plan, publish
from vector_index.segment import Segment, immutable_files, open_segment
from vector_index.snapshot import Snapshot
from vector_index.tail_view import TailView
from vector_index.text_change import text_change


@dataclass(frozen=True, slots=True)
class Merged:
    """An ended merge, its segment opened, and the files that make it up."""

    merge: Merge
    segment: Segment
    files: dict[str, FileEntry]


@dataclass(frozen=True, slots=True)
class Written:
    """A live generation. `layers` opens it with the deaths there are by the time of the call."""

    manifest: Manifest
    folder: Path
    text: TantivyText
    merged: Merged | None
    layers: Callable[[], tuple[Layer, ...]]


def write_generation(home: Path, snapshot: Snapshot, merged: Merged | None) -> Written:
    """Publishes the snapshot, with a merged segment in the place of those it was made from.

    Deaths after the snapshot's sequence number may go on meanwhile: they are not written, and
    not lost, because a new segment's deaths are read off where its documents came from.
    """
    kept = [tail.alive(snapshot.sequence) for tail in snapshot.tails]
    sources = [(t, k) for t, k in zip(snapshot.tails, kept, strict=True) if len(k)]
    fresh = [tail.content(documents) for tail, documents in sources]
    if snapshot.extra is not None and snapshot.extra.documents.num_rows:
        fresh.append(snapshot.extra)
    gone = frozenset[str]() if merged is None else frozenset(merged.merge.job.segments)
    stay = [layer for layer in snapshot.layers if layer.segment.id not in gone]
    inherited = [_inherited(snapshot, layer) for layer in stay]
    if merged is not None:
        inherited.append(_adopted(merged, snapshot.sequence))
    inherited = [p for p in inherited if len(p.deleted) < p.segment.documents.num_rows]
    texts = [content.passages for content in fresh]
    parent = snapshot.generation.manifest.generation if snapshot.generation else None
    manifest = publish(
        home,
        Plan(
            snapshot.settings,
            snapshot.source,
            snapshot.sequence,
            parent,
            inherited,
            fresh,
            text_change(snapshot, texts, is_all_new=not stay),
        ),
    )
    folder = home / GENERATIONS / manifest.generation
    opened, text = _open_fresh(folder, manifest, len(inherited))

    def layers() -> tuple[Layer, ...]:
        by_id = {layer.segment.id: layer for layer in stay}
        if merged is not None:
            deaths = merged.merge.deaths(merged.segment)
            by_id[merged.segment.id] = Layer(merged.segment, deaths)
        old = [by_id[part.segment.id] for part in inherited]
        new = [
            Layer(segment, _deaths(segment, *sources[number] if number < len(sources) else ()))
            for number, segment in enumerate(opened)
        ]
        return (*old, *new)

    return Written(manifest, folder, text, merged, layers)


def _open_fresh(
    folder: Path, manifest: Manifest, inherited: int
) -> tuple[list[Segment], TantivyText]:
    try:
        segments = [
            open_segment(folder, entry, manifest.settings)
            for entry in manifest.segments[inherited:]
        ]
        return segments, open_text(folder, manifest.settings)
    except (OSError, ValueError, RuntimeError, VectorIndexError) as exc:
        raise WriterClosed(f"{folder.name} is live, but could not be opened: {exc}") from exc


def _inherited(snapshot: Snapshot, layer: Layer) -> Inherited:
    assert snapshot.generation is not None
    return Inherited(
        layer.segment,
        layer.deaths.positions(snapshot.sequence),
        snapshot.generation.folder,
        immutable_files(snapshot.generation.manifest, layer.segment.id),
    )


def _adopted(merged: Merged, sequence: int) -> Inherited:
    deleted = merged.merge.deaths(merged.segment).positions(sequence)
    return Inherited(merged.segment, deleted, merged.merge.job.target, merged.files)


def _deaths(
    segment: Segment, tail: TailView | None = None, kept: NDArray[np.int64] | None = None
) -> Deaths:
    """The deaths of a new segment: none, or those its documents have died in their tail."""
    if tail is None or kept is None:
        return Deaths.none(segment.documents.num_rows)
    at = tail.tail.deaths.at(kept)
    return Deaths(at, rows=segment.count_rows(np.flatnonzero(at)))
