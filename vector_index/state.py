"""What a writer holds in memory: the live generation's layers and the tails before them."""

from collections.abc import Sequence

from vector_index.generation import Generation, inodes_of
from vector_index.layer import Killed, Layer
from vector_index.manifest import IndexSettings
from vector_index.passages import IndexVersion, SourceVersion
from vector_index.segment import Content
from vector_index.snapshot import Snapshot
from vector_index.tail import Tail, TailLimits, needs
from vector_index.tail_view import TailView
from vector_index.view import Part, View
from vector_index.wal import Change, touched
from vector_index.writing import Written


class State:
    """Changed by one thread at a time; its views are immutable and free to share.

    Changes go to the last tail. The tails before it are frozen: a flush is writing them, or
    has failed to.
    """

    def __init__(
        self, settings: IndexSettings, limits: TailLimits, generation: Generation | None
    ) -> None:
        self.settings = settings
        self.generation = generation
        self.sequence = 0 if generation is None else generation.manifest.sequence
        self.source = None if generation is None else generation.manifest.source
        self._layers: tuple[Layer, ...] = () if generation is None else generation.layers
        self._limits = limits
        self._tails = [Tail(settings, limits)]

    @property
    def is_flushed(self) -> bool:
        """Whether the live generation has everything."""
        if self.generation is None:
            return True
        manifest = self.generation.manifest
        return (manifest.sequence, manifest.source) == (self.sequence, self.source)

    def has_room(self, need: TailLimits) -> bool:
        """Whether a change that needs this much fits in before a flush.

        Nothing does where flushes that failed have left more than one tail holds.
        """
        waiting = [tail.used for tail in self._tails[:-1]]
        return (
            sum(used.rows for used in waiting) <= self._limits.rows
            and sum(used.size_bytes for used in waiting) <= self._limits.size_bytes
            and self._tails[-1].has_room(need)
        )

    def replay(self, change: Change) -> None:
        """Takes in a change that was logged but not flushed."""
        self.kill(touched(change.delta), change.sequence)
        need = needs(change.delta)
        if not self._tails[-1].has_room(need):  # the log may be from a writer with wider limits
            limits = TailLimits(
                max(self._limits.rows, need.rows), max(self._limits.size_bytes, need.size_bytes)
            )
            self._tails.append(Tail(self.settings, limits))
        self.accept(change, need)

    def accept(self, change: Change, need: TailLimits) -> None:
        """Takes in a change whose deaths are recorded. Views made from then on see it."""
        if change.delta.documents.num_rows:
            self._tails[-1].append(change.delta, need)
        self.sequence = change.sequence
        self.source = change.source or self.source

    def kill(self, document_ids: Sequence[str], sequence: int) -> list[tuple[Tail | None, Killed]]:
        """Records deaths, which no view sees before `sequence` is reached. All of them or none."""
        killed: list[tuple[Tail | None, Killed]] = []
        try:
            for tail in self._tails:
                killed.append((tail, tail.kill(document_ids, sequence)))
            for layer in self._layers:
                killed.append((None, layer.kill(document_ids, sequence)))
        except BaseException:
            self.revive(killed)
            raise
        return [(tail, dead) for tail, dead in killed if len(dead.documents)]

    def revive(self, killed: list[tuple[Tail | None, Killed]]) -> None:
        """Takes deaths back whose change has failed."""
        for tail, dead in killed:
            if tail is None:
                dead.revive()
            else:
                tail.revive(dead)

    def view(self) -> View:
        """The state as readers see it. There is a generation."""
        assert self.generation is not None
        assert self.source is not None
        manifest = self.generation.manifest
        version = IndexVersion(
            index=self.settings.name,
            generation=manifest.generation,
            number=manifest.number,
            created_at=manifest.created_at,
            source=self.source,
            sequence=self.sequence,
        )
        parts: tuple[Part, ...] = (*self._layers, *self._tail_views(self._tails))
        return View(self.settings, parts, self.generation.text, version)

    def freeze(self) -> Snapshot:
        """All there is, to be written while changes go on in a new tail."""
        assert self.source is not None
        if not self._tails[-1].is_empty:
            self._tails.append(Tail(self.settings, self._limits))
        return self.snapshot(self.sequence, self.source, tails=len(self._tails) - 1)

    def snapshot(
        self,
        sequence: int,
        source: SourceVersion,
        *,
        tails: int | None = None,
        extra: Content | None = None,
    ) -> Snapshot:
        """Layers and the first `tails` tails at `sequence`, with `extra` as one more segment."""
        views = self._tail_views(self._tails[:tails])
        return Snapshot(
            self.settings, self.generation, self._layers, views, sequence, source, extra
        )

    def adopt(self, written: Written, *, tails: int) -> None:
        """The written generation takes the place of the layers and the first `tails` tails."""
        self._layers = written.layers()
        manifest, folder = written.manifest, written.folder
        inodes = inodes_of(manifest, folder)
        self.generation = Generation(manifest, self._layers, written.text, folder, inodes)
        self._tails = self._tails[tails:] or [Tail(self.settings, self._limits)]
        self.sequence = max(self.sequence, written.manifest.sequence)

    @property
    def frozen_tails(self) -> int:
        """How many tails come before the one that takes changes."""
        return len(self._tails) - 1

    @property
    def all_tails(self) -> int:
        """How many tails there are."""
        return len(self._tails)

    def _tail_views(self, tails: Sequence[Tail]) -> tuple[TailView, ...]:
        return tuple(tail.view() for tail in tails if not tail.is_empty)
