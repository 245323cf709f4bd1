"""Chunk and embed: rows of a table become passages with vectors, one Arrow batch at a time.

Pure functions: what they make depends on what they are given and on nothing else, so a batch may
be worked on here, or in another process, by whoever has the same embedder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.errors import BadVectors
from pipelines.isolation import Failure, isolate
from pipelines.reasons import Reason
from pipelines.rows import passages_of
from pipelines.sifting import Refused
from pipelines.sources.protocol import ColumnMapping
from pipelines.sources.vectors import vectors_of
from vector_index.passages import MetadataType


@dataclass(frozen=True, slots=True)
class Recipe:
    """What becomes of a row's columns.

    dim: of every vector. isolates: whether a row that cannot be indexed is refused and the others
    are made; otherwise one such row raises. embed_timeout_s: of one call, where rows are isolated.
    """

    mapping: ColumnMapping
    metadata: Mapping[str, MetadataType]
    dim: int
    isolates: bool = False
    embed_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Passages without their vectors, or with those that the table gives.

    keys: of the documents, in the order of the rows. passages: `passage_schema`, row by row.
    vectors: float32 (passages, dim), None where they are to be made of the texts.
    """

    keys: tuple[str, ...]
    passages: pa.Table
    vectors: NDArray[np.float32] | None = None
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """Passages with their vectors, of the documents that were not refused.

    vectors: float32 (passages, dim), L2-normalised. embedded: texts sent to the embedder.
    """

    keys: tuple[str, ...]
    passages: pa.Table
    vectors: NDArray[np.float32]
    refused: tuple[Refused, ...] = ()
    embedded: int = 0


def cut(batch: pa.RecordBatch, recipe: Recipe, chunk: Chunker) -> Cut:
    """The passages of these rows. Raises BadRow, SchemaMismatch, BadVectors."""
    mapping, vectors = recipe.mapping, None
    refused: tuple[Refused, ...] = ()
    if mapping.vector is not None:
        batch, vectors, refused = _given_vectors(batch, recipe)
    passages, owners = passages_of(batch, mapping, chunk, dict(recipe.metadata))
    keys = tuple(batch.column(mapping.key).to_pylist())
    return Cut(keys, passages, None if vectors is None else vectors[owners], refused)


def embed(
    piece: Cut,
    known: Mapping[str, NDArray[np.float32]],
    recipe: Recipe,
    embedder: Embedder,
    *,
    on_texts: Callable[[int, int], None] | None = None,
) -> Made:
    """The passages with their vectors; only a text without one is embedded, and once.

    known: text hash to vector, float32 (dim,). on_texts: gets (texts done, texts to embed).
    Raises EmbedderStuck, and what the embedder raises where rows are not isolated.
    """
    if piece.vectors is not None:
        return Made(piece.keys, piece.passages, piece.vectors, piece.refused)
    hashes = piece.passages["text_hash"].to_pylist()
    texts = {
        one: text
        for one, text in zip(hashes, piece.passages["text"].to_pylist(), strict=True)
        if one not in known
    }
    fresh, failed = _embedded(texts, recipe, embedder, on_texts)
    vectors = np.zeros((len(hashes), recipe.dim), np.float32)
    for row, one in enumerate(hashes):
        vector = fresh.get(one)
        vectors[row] = known.get(one, 0.0) if vector is None else vector
    made = Made(piece.keys, piece.passages, vectors, piece.refused, len(texts))
    return _without_failed(made, failed, texts) if failed else made


def _given_vectors(
    batch: pa.RecordBatch, recipe: Recipe
) -> tuple[pa.RecordBatch, NDArray[np.float32], tuple[Refused, ...]]:
    """The rows whose vector can be used, these vectors, and the rows that are refused."""
    column = recipe.mapping.vector
    assert column is not None
    refused: list[Refused] = []
    while True:
        try:
            return batch, vectors_of(batch, column, recipe.dim), tuple(refused)
        except BadVectors as exc:
            if not recipe.isolates:
                raise
            keys = batch.column(recipe.mapping.key).to_pylist()
            refused += [Refused(keys[row], Reason.BAD_VECTOR, str(exc), "") for row in exc.rows]
            good = np.setdiff1d(np.arange(batch.num_rows), exc.rows)
            batch = batch.take(pa.array(good))


def _embedded(
    texts: Mapping[str, str],
    recipe: Recipe,
    embedder: Embedder,
    on_texts: Callable[[int, int], None] | None,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Failure]]:
    """Vectors and failures by text hash. texts: text hash to text."""
    if not texts:
        return {}, {}

    def call(some: Sequence[str]) -> NDArray[np.float32]:
        done = 0

        def count(newly: int) -> None:
            nonlocal done
            done += newly
            if on_texts is not None:
                on_texts(done, len(some))

        return embedder.embed_passages(some, on_progress=count)

    hashes, whole = list(texts), list(texts.values())
    if not recipe.isolates:
        return dict(zip(hashes, call(whole), strict=True)), {}
    vectors, failures = isolate(call, whole, timeout_s=recipe.embed_timeout_s)
    failed = {hashes[failure.position]: failure for failure in failures}
    pairs = zip(hashes, vectors, strict=True)
    return {one: vector for one, vector in pairs if one not in failed}, failed


def _without_failed(made: Made, failed: Mapping[str, Failure], texts: Mapping[str, str]) -> Made:
    """What was made but for the documents with a text that has no vector: they are refused."""
    ids, hashes = (made.passages[name].to_pylist() for name in ("document_id", "text_hash"))
    refused: dict[str, Refused] = {}
    for key, one in zip(ids, hashes, strict=True):
        if one in failed:
            failure = failed[one]
            row = Refused(key, failure.reason, failure.detail, texts[one])
            refused.setdefault(key, row)
    gone = pa.array(list(refused), pa.string())
    kept = pc.invert(pc.is_in(made.passages["document_id"], value_set=gone))
    return replace(
        made,
        keys=tuple(key for key in made.keys if key not in refused),
        passages=made.passages.filter(kept),
        vectors=made.vectors[kept.to_numpy()],
        refused=(*made.refused, *refused.values()),
    )
