"""An index on the local disk, as any process reads it: at the generation it opened last."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import NeverPublished
from vector_index.generation import Generation, open_current
from vector_index.layer import Placing
from vector_index.lock import SyncLock, WriterLock
from vector_index.logs import has_changes
from vector_index.manifest import IndexSettings
from vector_index.passages import Base, IndexDelta, IndexVersion, SourceVersion
from vector_index.reading import Reading
from vector_index.staging import StagedParts, forget_staged
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
        # Held while `_live` moves: a slow refresh must not end on an older one than a publish.
        self._moving = threading.RLock()
        self.refresh()

    def view(self) -> View:
        """The generation opened last. Raises IndexNotFound before the first publish."""
        if self._live is None:
            raise NeverPublished(self._settings.name)
        return self._live.view()

    def documents(self) -> Mapping[str, str]:
        """Document id to content hash of everything indexed; empty before the first publish."""
        return {} if self._live is None else super().documents()

    def vectors_of(
        self, text_hashes: Collection[str], *, among: Collection[str] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """As `SyncedIndex.vectors_of`; whatever document has it."""
        return {} if self._live is None else super().vectors_of(text_hashes)

    def hashes_of(self, document_ids: Collection[str]) -> dict[str, str]:
        """Document id to content hash, of those of these documents that are indexed."""
        return {} if self._live is None else super().hashes_of(document_ids)

    def publish(
        self, delta: IndexDelta, source: SourceVersion, *, base: Base = "any"
    ) -> IndexVersion:
        """As `VectorIndex.publish`. Raises IndexBusy when someone else is writing."""
        with IndexWriter(self._home, self._settings, opened=self._live) as writer:
            version = writer.publish(delta, source, base=base)
            self._follow(writer)
        forget_staged(self._home)
        return version

    def staging(self, wanted: Mapping[str, str]) -> StagedParts:
        """As `SyncedIndex.staging`: parts go to the disk, and outlive the process."""
        return StagedParts(self._home, self._settings, wanted, self._publish_staged)

    def refresh(self) -> bool:
        """Opens the generation that CURRENT names, if it is another one; says whether it was.

        Raises IndexCorrupt when the new one is damaged, EmbedderMismatch or SettingsMismatch
        when it was built otherwise than configured; the old one then keeps serving.
        """
        with self._moving:
            before = self._live
            found = open_current(self._home, self._settings, known=before, place=self._place)
            if found is None or found is before:
                return False
            self._live = found
            return True

    @contextmanager
    def lease(self) -> Iterator[None]:
        """As `SyncedIndex.lease`; changes that a dead writer left in its log are published first.

        The kernel frees the lock when its process dies and never before, so on a local disk
        nobody loses a lease while alive. Where a lock is not worth that much (a network file
        system that forgot it after a break), `publish` with a base is the fence: it compares and
        swaps under the writer's own lock, as it does against a rollback or rebuild meanwhile.
        """
        with SyncLock(self._home, self._settings.name):
            if has_changes(self._home):
                with IndexWriter(self._home, self._settings, opened=self._live) as writer:
                    writer.flush()
            self.refresh()
            yield

    def _publish_staged(self, delta: IndexDelta, source: SourceVersion, base: Base) -> IndexVersion:
        with IndexWriter(self._home, self._settings, opened=self._live) as writer:
            writer.publish(delta, source, base=base)
            self._follow(writer)
            forget_staged(self._home)
            # Or the next small change would have to wait for the merges of this large one.
            version = writer.settle()
            self._follow(writer)
        return version

    def _follow(self, writer: IndexWriter) -> None:
        with self._moving:
            if self._place is None:
                self._live = writer.generation()
            self.refresh()

    def writing(self) -> WriterLock:
        """Holds the writer's lock. Raises IndexBusy at once when another process has it."""
        return WriterLock(self._home, self._settings.name)
