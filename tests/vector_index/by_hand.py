"""Indexes and changes small enough to compute by hand."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from vector_index.manifest import IndexSettings
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    IndexDelta,
    Passage,
    SourceVersion,
    passages_to_table,
)

COLUMNS = {"kind": "string", "views": "int", "tags": "strings"}
EVERYONE = Access("acme", frozenset({"staff"}))


def unit(*values):
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def settings(kind="flat", name="docs", weights="w"):
    return IndexSettings(
        name=name,
        kind=kind,
        embedder=EmbedderIdentity("by-hand", weights, 2),
        chunking={"max_tokens": 200},
        metadata_columns=COLUMNS,
        has_tenant=True,
        has_groups=True,
    )


def source(version=0):
    return SourceVersion("table", version, "fp", datetime(2026, 11, 24, tzinfo=UTC))


def passage(document_id, *, tenant="acme", groups=("staff",), ordinal=0, **metadata):
    text = f"text of {document_id}"
    return Passage(
        document_id, ordinal, document_id, text, 0, len(text), f"h-{document_id}-{ordinal}",
        tenant=tenant, allowed_groups=groups, metadata=metadata,
    )  # fmt: skip


def delta(rows, removed=()):
    """rows: list of (passage, vector)."""
    ids = list(dict.fromkeys(p.document_id for p, _ in rows))
    documents = pa.Table.from_pylist(
        [{"document_id": i, "document_hash": f"hash-{i}"} for i in ids], schema=DOCUMENT_SCHEMA
    )
    vectors = np.array([v for _, v in rows], np.float32).reshape(-1, 2)
    return IndexDelta(
        documents, passages_to_table([p for p, _ in rows], COLUMNS), vectors, frozenset(removed)
    )


DIM = 16


def random_settings(kind="flat", dim=DIM):
    return replace(settings(kind), embedder=EmbedderIdentity("random", "w", dim))


def random_vectors(seed, count, dim=DIM):
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_delta(ids, *, seed=0, removed=(), dim=DIM, **metadata):
    """One passage a document; the vector of a document depends on the seed alone."""
    passages = [passage(key, **metadata) for key in ids]
    documents = pa.Table.from_pylist(
        [{"document_id": key, "document_hash": f"{key}-{seed}"} for key in ids],
        schema=DOCUMENT_SCHEMA,
    )
    vectors = random_vectors(seed, len(ids), dim)
    return IndexDelta(documents, passages_to_table(passages, COLUMNS), vectors, frozenset(removed))


def clustered(rows, seed):
    """float32 (rows, 32): unit vectors around 60 centres that overlap a little."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(7).standard_normal((60, 32))
    points = middles[rng.integers(0, 60, rows)] + 0.6 * rng.standard_normal((rows, 32))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
