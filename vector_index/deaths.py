"""When each document of a segment died: the whole of multi-version concurrency control.

Every change to an index has a sequence number. A document that is replaced or deleted by change
s gets s written beside it, once, and nothing else moves. A reader at sequence r takes a document
for dead if and only if it died at or before r, so a reader that began earlier keeps its answer
while the writer goes on, and neither of them locks.
"""

import numpy as np
from numpy.typing import NDArray

from vector_index.masks import Mask


class Deaths:
    """One aligned int64 a document: 0 while it lives, else the sequence number of its death.

    One writer, any number of readers. `rows` counts the passages of all that died so far.
    """

    __slots__ = ("_at", "rows")

    def __init__(self, at: NDArray[np.int64], *, rows: int = 0) -> None:
        self._at = at
        self.rows = rows

    @classmethod
    def none(cls, documents: int) -> "Deaths":
        """Everybody lives."""
        return cls(np.zeros(documents, np.int64))

    def copy(self) -> "Deaths":
        """The same deaths, for another writer to add to."""
        return Deaths(self._at.copy(), rows=self.rows)

    def kill(self, documents: NDArray[np.int64], sequence: int, *, rows: int) -> None:
        """Records the death of living documents that had this many passages together."""
        self._at[documents] = sequence
        self.rows += rows

    def revive(self, documents: NDArray[np.int64], *, rows: int) -> None:
        """Takes a `kill` back. Only before any reader has a view at its sequence number."""
        self._at[documents] = 0
        self.rows -= rows

    def living(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of these documents that the newest state still has."""
        living: NDArray[np.int64] = documents[self._at[documents] == 0]
        return living

    def dead(self, documents: NDArray[np.integer], sequence: int) -> Mask:
        """Which of these documents a reader at `sequence` takes for dead."""
        at = self._at[documents]
        dead: Mask = (at > 0) & (at <= sequence)
        return dead

    def positions(self, sequence: int, *, documents: int | None = None) -> NDArray[np.int64]:
        """The documents, of the first `documents`, that are dead at `sequence`; ascending."""
        at = self._at[:documents].copy()  # or a revival between the comparisons reads as a death
        return np.flatnonzero((at > 0) & (at <= sequence))

    def alive(self, sequence: int, *, documents: int | None = None) -> NDArray[np.int64]:
        """The documents, of the first `documents`, that live at `sequence`; ascending."""
        at = self._at[:documents].copy()
        return np.flatnonzero((at == 0) | (at > sequence))

    def at(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """A copy of the sequence numbers of these documents."""
        return self._at[documents]
