"""What a writer holds at one sequence number, ready to become a generation."""

from dataclasses import dataclass

from vector_index.generation import Generation
from vector_index.layer import Layer
from vector_index.manifest import IndexSettings
from vector_index.passages import SourceVersion
from vector_index.segment import Content
from vector_index.tail_view import TailView


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a generation is to hold: what lives at `sequence`, and `extra`."""

    settings: IndexSettings
    generation: Generation | None
    layers: tuple[Layer, ...]
    tails: tuple[TailView, ...]
    sequence: int
    source: SourceVersion
    extra: Content | None = None
