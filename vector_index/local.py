"""An index on the local disk, as any process reads it: at the generation it opened last."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import IndexBusy, NeverPublished
from vector_index.generation import Generation, open_current
from vector_index.layer import Placing
from vector_index.lock import WriterLock
from vector_index.manifest import IndexSettings
from vector_index.passages import IndexDelta, IndexVersion, SourceVersion
from vector_index.reading import Reading
from vector_index.view import View
from vector_index.writer import IndexWriter


class LocalIndex(Reading):
    """A VectorIndex over `<home>/CURRENT` and `<home>/generations`.

    Searches use the generation opened last; `refresh` moves to a newer published one. place:
    where segments are scanned, such as `gpu.Device.replica`; None for the CPU.
    """

    def __init__(
        self, home: Path, settings: IndexSettings, *, place: Placing | None = None
    ) -> None:
        self._home = home
        self._settings = settings
        self._place = place
        self._live: Generation | None = None
        self.refresh()

    def view(self) -> View:
        """The generation opened last. Raises IndexNotFound before the first publish."""
        if self._live is None:
            raise NeverPublished(self._settings.name)
        return self._live.view()

    def documents(self) -> Mapping[str, str]:
        """Document id to content hash of everything indexed; empty before the first publish."""
        return {} if self._live is None else super().documents()

    def vectors_by_text(self, document_ids: frozenset[str]) -> dict[str, NDArray[np.float32]]:
        """Text hash to vector of all that is indexed for these documents."""
        return {} if self._live is None else super().vectors_by_text(document_ids)

    def publish(self, delta: IndexDelta, source: SourceVersion) -> IndexVersion:
        """As `VectorIndex.publish`. Raises IndexBusy when someone else is writing.

        Also when someone else has written since this index was read, or has left changes that
        are not flushed: the delta may come of comparing with what is no longer so. They are
        flushed and read then, so that comparing and publishing again succeeds.
        """
        with IndexWriter(self._home, self._settings, opened=self._live) as writer:
            is_behind = _newest(self) != _newest(writer)
            version = writer.flush() if is_behind else writer.publish(delta, source)
            if self._place is None:
                self._live = writer.generation()
        self.refresh()
        if is_behind:
            raise IndexBusy(
                f"index {self._settings.name!r} was changed by another writer since it was read, "
                f"and is now at {version.generation}; nothing was published: run it again"
            )
        return version

    def refresh(self) -> bool:
        """Opens the generation that CURRENT names, if it is another one; says whether it was.

        Raises IndexCorrupt when the new one is damaged, EmbedderMismatch or SettingsMismatch
        when it was built otherwise than configured; the old one then keeps serving.
        """
        before = self._live
        found = open_current(self._home, self._settings, known=before, place=self._place)
        if found is None or found is before:
            return False
        self._live = found
        return True

    def writing(self) -> WriterLock:
        """Holds the writer's lock. Raises IndexBusy at once when another process has it."""
        return WriterLock(self._home, self._settings.name)


def _newest(index: Reading) -> tuple[str, int] | None:
    try:
        version = index.version()
    except NeverPublished:
        return None
    return version.generation, version.sequence
