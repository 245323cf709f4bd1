"""What an engine is, wherever it works."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.step import Made, Recipe

Known = Callable[[Collection[str], Collection[str]], Mapping[str, NDArray[np.float32]]]
"""Stored vectors of these texts, by text hash, looked for at least among these documents."""


class Engine(Protocol):
    """Runs the step over batches. Whatever the engine, the same passages and vectors come out."""

    def run(
        self,
        batches: Iterator[pa.RecordBatch],
        recipe: Recipe,
        *,
        known: Known | None,
        on_share: Callable[[float], None] | None = None,
    ) -> Iterator[Made]:
        """What becomes of each batch, in their order, in bounded memory.

        known: None where nothing is stored; called in a thread of the engine's, one call at a
        time. on_share: gets which part of the batch under way is done, 0 to 1, where that can be
        known. Raises what the step raises, and EngineFailed.
        """
        ...
