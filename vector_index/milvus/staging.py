"""A large change on its way into Milvus: every part is written at once, and seen by nobody yet."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from vector_index.checks import check_delta
from vector_index.errors import IndexBusy
from vector_index.manifest import IndexSettings
from vector_index.milvus.changes import Changes
from vector_index.milvus.state import State
from vector_index.passages import Base, IndexDelta, IndexVersion, SourceVersion


@dataclass(slots=True)
class StreamedParts:
    """A `Staging` whose rows live from the step after `begun` on, the state it began with.

    No more than one part is in memory, and of those before it the document ids. A killed process
    begins anew: the next change removes what it had written.
    """

    changes: Changes
    settings: IndexSettings
    begun: State | None
    finish: Callable[["StreamedParts", frozenset[str], SourceVersion, Base], IndexVersion]
    document_ids: list[str] = field(default_factory=list)
    passages: int = 0

    @property
    def step(self) -> int:
        """From which its rows live."""
        return 1 if self.begun is None else self.begun.step + 1

    def kept(self) -> Collection[str]:
        """Nothing: there is no earlier attempt."""
        return ()

    def add(self, delta: IndexDelta) -> None:
        """As `Staging.add`. Raises InvalidDelta, StoreFailed."""
        check_delta(delta, self.settings)
        self.changes.put(delta, self.step)
        self.document_ids += delta.documents["document_id"].to_pylist()
        self.passages += delta.passages.num_rows

    def check(self, live: State | None) -> None:
        """Raises IndexBusy unless all its rows are there, and what they began with is `live`.

        Another change, even one that failed, has repaired them away.
        """
        written = (len(self.document_ids), self.passages)
        if live != self.begun or self.changes.begun(self.step) != written:
            raise IndexBusy(
                f"index {self.settings.name!r} was changed while a large change was being "
                f"written; run one sync at a time, then sync again"
            )

    def publish(
        self, removed: frozenset[str], source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """As `Staging.publish`. Raises IndexBusy where another change came in between."""
        return self.finish(self, removed, source, base)
