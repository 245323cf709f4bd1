"""How a writer works: bounds and promises that are not recorded in the index."""

from dataclasses import dataclass, field

from vector_index.tail import TailLimits

KEPT_GENERATIONS = 2


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How a writer works; none of it is recorded in the index.

    is_synced: whether a change is on the disk when `upsert` or `delete` returns. Without it a
    crash of the machine may lose the latest changes, a crash of the process never does.
    in_process_rows: merges of up to so many rows that `publish` waits for start no process.
    """

    tail: TailLimits = field(default_factory=TailLimits)
    is_synced: bool = True
    kept_generations: int = KEPT_GENERATIONS
    merges: bool = True
    in_process_rows: int = 50_000
