"""What every vector index can do, whoever stores it."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vector_index.filters import Filter
from vector_index.passages import (
    Access,
    IndexDelta,
    IndexVersion,
    MetadataType,
    SearchResult,
    SourceVersion,
)
from vector_index.query import EQUAL, LegWeights, QueryType

MAX_K = 1000


class VectorIndex(Protocol):
    """Passages and their vectors, published in generations, searched by inner product."""

    @property
    def metadata_columns(self) -> Mapping[str, MetadataType]:
        """The columns a filter may name, with their types."""

    def version(self) -> IndexVersion:
        """The live generation. Raises IndexNotFound before the first publish."""

    def search(
        self,
        vector: NDArray[np.float32] | None,
        *,
        k: int,
        access: Access,
        where: Filter | None = None,
        text: str | None = None,
        mode: QueryType = "ann",
        weights: LegWeights = EQUAL,
    ) -> SearchResult:
        """The k best passages `access` may see that satisfy `where`, best first.

        vector: float32 (dim,), L2-normalised, so that scores are cosines; needed by `ann` and
        `hybrid`. text: needed by `full_text` (scores are BM25) and `hybrid` (reciprocal rank
        fusion of both, weighted). Fewer than k hits means that fewer than k passages qualify: for
        full text those that hold a word of `text`. Raises InvalidQuery for a k outside 1..MAX_K,
        a missing vector or text, a wrong dimension, or a vector that is not finite;
        IndexNotFound.
        """

    def documents(self) -> Mapping[str, str]:
        """Document id to content hash of everything indexed; empty before the first publish."""

    def publish(self, delta: IndexDelta, source: SourceVersion) -> IndexVersion:
        """Makes the delta live as one new generation: all of it or, on any error, none of it."""
