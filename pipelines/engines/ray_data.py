"""The step on a Ray cluster, by Ray Data: the table is read here, cut and embedded by actors.

    rows here > bounded queue > Ray Data, map_batches over actors > what they made, in order, here

Each actor builds its embedder once. At most `_AHEAD` batches an actor are under way, whatever the
cluster would take, so memory does not grow with the table. An actor that dies is replaced and its
batch done again; where the reading end of the queue dies, the sync fails and nothing is published.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.engines.messages import BEGIN, failed_row, made_of, made_row, work_of, work_row
from pipelines.engines.protocol import Known
from pipelines.errors import EngineFailed, MissingExtra
from pipelines.step import Made, Recipe, cut, embed

BuildTools = Callable[[], tuple[Embedder, Chunker]]
"""Makes an embedder and a chunker where it is called: on a worker. It is pickled on its way."""

# Batches under way for each actor: one in work, the others on their way. With one in all, Ray's
# iterator waits for the next before it gives that one, for ever.
_AHEAD = 4


class RayEngine:
    """An `Engine` of `workers` actors; None is one a node, which uses that node's cores.

    Connects as `ray.init` does: to RAY_ADDRESS, a cluster that was started here, or a new one on
    this machine. Workers need what we are installed with. chunk: as theirs, for what is looked up
    here. Raises MissingExtra.
    """

    def __init__(self, build: BuildTools, chunk: Chunker, *, workers: int | None = None) -> None:
        try:
            import ray.data
        except ImportError as exc:
            raise MissingExtra(
                f"the engine ray needs Ray Data, which is not installed ({exc}); "
                f"run pip install 'headrace[ray]'"
            ) from exc
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; it must be at least 1")
        self._build, self._chunk = build, chunk
        self._workers = workers
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every data set
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="warning")

    def run(
        self,
        batches: Iterator[pa.RecordBatch],
        recipe: Recipe,
        *,
        known: Known | None,
        on_share: Callable[[float], None] | None = None,
    ) -> Iterator[Made]:
        """As `Engine.run`; of a batch under way no share is known."""
        import ray
        from ray.exceptions import RayError

        workers = self._workers or len([node for node in ray.nodes() if node["Alive"]])
        feed = _Feed(batches, self._known(known, recipe), workers * _AHEAD)
        try:
            for row in _rows(feed, self._build, recipe, workers):
                yield made_of(row, recipe.dim)
                feed.took_one()
        except RayError as exc:
            if feed.error is None:
                raise _failed(exc) from exc
        finally:
            feed.stop()
        if feed.error is not None:
            raise feed.error

    def _known(
        self, known: Known | None, recipe: Recipe
    ) -> Callable[[pa.RecordBatch], Mapping[str, NDArray[np.float32]]]:
        """The stored vectors of a batch: it is cut here too, or nobody would know its texts."""
        if known is None or recipe.mapping.vector is not None:
            return lambda batch: {}

        def vectors(batch: pa.RecordBatch) -> Mapping[str, NDArray[np.float32]]:
            piece = cut(batch, recipe, self._chunk)
            return known(set(piece.passages["text_hash"].to_pylist()), piece.keys)

        return vectors


class _Worker:
    """An actor of map_batches. It is given one batch at a time, and answers with one row."""

    def __init__(self, build: BuildTools, recipe: Recipe) -> None:
        self._embedder, self._chunk = build()
        self._recipe = recipe

    def __call__(self, table: pa.Table) -> pa.Table:
        batch, known = work_of(table)
        try:
            piece = cut(batch, self._recipe, self._chunk)
            return made_row(embed(piece, known, self._recipe, self._embedder))
        except Exception as exc:  # noqa: BLE001 - raised again where the results are read
            return failed_row(exc)


@dataclass(slots=True)
class _Feed:
    """A thread that puts batches into the queue, while there is room for what they become."""

    batches: Iterator[pa.RecordBatch]
    known: Callable[[pa.RecordBatch], Mapping[str, NDArray[np.float32]]]
    room: int
    error: BaseException | None = None
    queue: Any = field(init=False)
    _free: threading.Semaphore = field(init=False)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        from ray.util.queue import Queue

        self.queue = Queue(actor_options={"num_cpus": 0})
        self._free = threading.Semaphore(self.room)
        self._thread = threading.Thread(target=self._feed, name="ray-feed", daemon=True)
        self._thread.start()

    def took_one(self) -> None:
        """What a batch has become is out of the cluster."""
        self._free.release()

    def stop(self) -> None:
        """Ends the thread, which may wait for room."""
        self._stopping.set()
        self._free.release()
        self._thread.join()
        self.queue.shutdown(force=True)

    def _feed(self) -> None:
        try:
            self.queue.put(BEGIN)
            for batch in self.batches:
                self._free.acquire()
                if self._stopping.is_set():
                    return
                self.queue.put(work_row(batch, self.known(batch)))
        except BaseException as exc:  # noqa: BLE001 - raised again where the results are read
            self.error = exc
        self.queue.put(None)


def _rows(
    feed: _Feed, build: BuildTools, recipe: Recipe, workers: int
) -> Iterator[Mapping[str, pa.Scalar]]:
    import ray.data

    from pipelines.engines.ray_source import QueueSource, small_blocks

    with small_blocks():
        made = ray.data.read_datasource(
            QueueSource(feed.queue),
            override_num_blocks=1,
            num_cpus=0,  # it only waits
        ).map_batches(
            _Worker,
            fn_constructor_args=(build, recipe),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        for table in made.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=1):
            yield {name: table[name][0] for name in table.column_names}


def _failed(exc: Exception) -> EngineFailed:
    """Ray puts the reason last."""
    last = next(iter(str(exc).strip().splitlines()[::-1]), type(exc).__name__)
    return EngineFailed(f"Ray could not finish: {last}; nothing was published, sync again")
