"""The rivals of benchmarks/rivals.py by name."""

import os
from collections.abc import Callable, Mapping

from contenders import WIDTHS, Contender, one_knob
from rival_databases import Chroma, Lancedb, MilvusLite, Qdrant
from rival_libraries import Hnswlib, M, Usearch

PARTITIONS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)


def rival_contenders() -> Mapping[str, Callable[[], Contender]]:
    """The rivals by name."""
    os.environ.setdefault("LANCE_LOG", "error")
    refined = [[(probes, refine) for probes in PARTITIONS] for refine in (5, 10, 20)]
    widths = [*one_knob(WIDTHS), [(width, 2) for width in WIDTHS]]
    return {
        "hnswlib:m16": lambda: Hnswlib(M),
        "hnswlib:m32": lambda: Hnswlib(32),
        "usearch:f32": lambda: Usearch("f32"),
        "usearch:bf16": lambda: Usearch("bf16"),
        "usearch:i8": lambda: Usearch("i8"),
        "lancedb:hnsw_sq": lambda: Lancedb("hnsw_sq", widths),
        "lancedb:ivf_rq": lambda: Lancedb("ivf_rq", refined),
        "lancedb:ivf_pq": lambda: Lancedb("ivf_pq", refined),
        "milvus-lite": MilvusLite,
        "chroma": Chroma,
        "qdrant": Qdrant,
    }
