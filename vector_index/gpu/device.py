"""One card: its worker, and the replicas on it, one for each segment whatever the generation."""

import logging
import threading
import weakref
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import DeviceFailed
from vector_index.gpu.protocol import Accelerator, Found
from vector_index.gpu.replica import Replica, recipe_for
from vector_index.gpu.worker import Batching, Worker
from vector_index.kinds import SegmentVectors

_log = logging.getLogger(__name__)


class Device:
    """Copies segments onto one card and searches them there; thread-safe.

    memory_bytes: what the copies may take together, by estimate. patience_s: after so long
    without an answer a search is given up and the CPU is asked. Whoever opened it closes it.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        name: str,
        memory_bytes: int,
        batching: Batching | None = None,
        patience_s: float = 2.0,
    ) -> None:
        self.name = name
        self._accelerator = accelerator
        self._patience_s = patience_s
        self._worker = Worker(name, memory_bytes=memory_bytes, batching=batching)
        self._loading = threading.Lock()
        # Generations own their replicas; here they are only found again.
        self._replicas: WeakValueDictionary[str, Replica] = WeakValueDictionary()

    def replica(self, key: str, vectors: SegmentVectors) -> SegmentVectors:
        """Vectors to scan in place of these: a copy on the card, or these where none is made.

        key: the segment's id, unique among all segments on this device. Asked again while an
        earlier replica is in use, it returns that one, so generations share the copies of the
        segments they share; the copy is freed when the last of them lets go of the replica.
        These vectors come back where the kind has no form on a card, the budget is used up or
        the card refuses, which is logged; ask again for the next generation.

        Scan what is returned, and publish from the segment itself: merging knows segments by
        their class. Takes as long as the copy; a graph is built, which takes seconds. Searches
        are answered by the CPU meanwhile.
        """
        with self._loading:
            known = self._replicas.get(key)
            if known is not None:
                return known
            recipe = recipe_for(vectors, has_graph=self._accelerator.has_graph)
            if recipe is None:
                _log.info(
                    "segment %s stays on the CPU: no form on a card for it as %s of %d rows",
                    key,
                    vectors.kind,
                    vectors.count,
                )
                return vectors
            try:
                handle = self._worker.load(
                    lambda: recipe.copy(self._accelerator, vectors), recipe.size_bytes(vectors)
                )
            except DeviceFailed as exc:
                _log.warning("segment %s stays on the CPU: %s: %s", key, self.name, exc)
                return vectors
            replica = Replica(vectors, recipe, self, handle)
            weakref.finalize(replica, self._worker.free, handle).atexit = False
            self._replicas[key] = replica
            return replica

    def search(
        self, handle: int, queries: NDArray[np.float32], k: int, breadth: int
    ) -> Found | None:
        """As `Copy.search`; None where the card is busy loading, failed (logged) or is closed."""
        found = self._worker.submit(handle, queries, k, breadth)
        if found is None:
            return None
        try:
            return found.result(timeout=self._patience_s)
        except TimeoutError:
            found.cancel()
            _log.warning("%s gave no answer within %s s", self.name, self._patience_s)
        except DeviceFailed as exc:
            _log.warning("%s: %s", self.name, exc)
        return None

    def close(self) -> None:
        """Frees every copy and ends the thread; replicas then scan on the CPU."""
        self._worker.close()
