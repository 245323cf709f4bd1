"""The generations that are still on the disk, and the way back to one of them."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vector_index import disk
from vector_index.generation import (
    CURRENT,
    GENERATIONS,
    find_generation,
    kept_generations,
    open_generation,
    read_current,
)
from vector_index.options import WriterOptions
from vector_index.passages import IndexVersion, SourceVersion
from vector_index.writer import IndexWriter


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """A kept generation. is_live: whether CURRENT names it."""

    generation: str
    number: int
    created_at: datetime
    source: SourceVersion
    sequence: int
    documents: int
    passages: int
    parent: str | None
    is_live: bool


def history(home: Path) -> list[GenerationInfo]:
    """The kept generations, newest first; empty where there is no index."""
    live = read_current(home)
    return [
        GenerationInfo(
            generation=manifest.generation,
            number=manifest.number,
            created_at=manifest.created_at,
            source=manifest.source,
            sequence=manifest.sequence,
            documents=manifest.documents,
            passages=manifest.passages,
            parent=manifest.parent,
            is_live=manifest.generation == live,
        )
        for manifest in kept_generations(home)
    ]


def rollback(home: Path, to: int | str, *, options: WriterOptions | None = None) -> IndexVersion:
    """Makes a kept generation, by number or name, the live one again.

    Unflushed changes are flushed first, so that the way forward stays open too. The target is
    checked before it goes live, whatever settings it was built with. Raises GenerationNotFound
    with the list of the kept ones, IndexCorrupt, IndexBusy.
    """
    with IndexWriter(home, None, options=options) as writer:
        target = find_generation(home, to)
        open_generation(home / GENERATIONS / target.generation)
        writer.pin(target.generation)
        writer.flush()
        writer.forget_log()
        disk.replace_text(home / CURRENT, target.generation)
    return target.version()
