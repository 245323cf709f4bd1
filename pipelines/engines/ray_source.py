"""What Ray Data reads: a queue that somebody else fills. Imported only where Ray is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from ray.data import DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from pipelines.engines.messages import BEGIN

_START_S = 60.0


class QueueSource(Datasource):  # type: ignore[misc] # Ray has no types
    """The tables of a `ray.util.queue.Queue`, after BEGIN and until None. It can be read once."""

    def __init__(self, queue: Any) -> None:
        super().__init__()
        self._queue = queue

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: it depends on who fills the queue."""
        return None

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
        """One task, which waits at the queue."""
        queue = self._queue

        def read() -> Iterator[pa.Table]:
            # A task that takes over from one that died does not know what that one had read.
            if queue.get(timeout=_START_S) != BEGIN:
                raise RuntimeError("the task that reads the rows died, and some rows with it")
            while (table := queue.get()) is not None:
                yield table

        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, unknown)]


@contextmanager
def small_blocks() -> Iterator[None]:
    """While it lasts, data sets pass every row on at once, in order, and show no progress bar.

    Ray Data otherwise gathers 128 MB before an actor sees any of it.
    """
    context = DataContext.get_current()
    options = context.execution_options
    before = (context.target_max_block_size, options.preserve_order, context.enable_progress_bars)
    context.target_max_block_size = 1
    options.preserve_order = True
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.target_max_block_size, options.preserve_order, context.enable_progress_bars = before
