"""What the benchmarks publish: vectors as an index's documents, one passage each."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.manifest import IndexSettings
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    IndexDelta,
    SourceVersion,
    passage_schema,
)

ACCESS = Access(tenant="", groups=frozenset())

_TEXTS = 1000
_WORDS_PER_TEXT = 60
_VOCABULARY = 20_000
_STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def index_settings(kind: Any, dim: int) -> IndexSettings:
    """An index without metadata, restricted by nothing."""
    embedder = EmbedderIdentity("benchmark", "0" * 64, dim)
    return IndexSettings("benchmark", kind, embedder, {}, {}, has_tenant=False, has_groups=False)


def source_version(version: int) -> SourceVersion:
    """The table's state of that version."""
    return SourceVersion("benchmark", version, "0", _STARTED_AT)


def make_delta(vectors: NDArray[np.float32], first: int = 0) -> IndexDelta:
    """Documents `first`, `first` + 1, ... of one passage each, of 60 words (about 350 bytes)."""
    count = len(vectors)
    ids = pa.array(np.arange(first, first + count)).cast(pa.string())
    which = pa.array(np.arange(count) % _TEXTS)
    texts = _texts().take(which)
    zeros = pa.array(np.zeros(count, np.int32))
    lengths = pc.utf8_length(texts).cast(pa.int32())
    columns = {
        "document_id": ids,
        "ordinal": zeros,
        "title": pa.array(np.full(count, "A title")),
        "text": texts,
        "start": zeros,
        "end": lengths,
        "text_hash": ids,
    }
    schema = passage_schema({})
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    documents = pa.table([ids, ids], schema=DOCUMENT_SCHEMA)
    return IndexDelta(documents, pa.table(arrays, schema=schema), vectors, frozenset())


def _texts() -> pa.Array:
    rng = np.random.default_rng(0)
    words = rng.zipf(1.3, (_TEXTS, _WORDS_PER_TEXT)) % _VOCABULARY
    return pa.array([" ".join(f"w{word}" for word in line) for line in words])
