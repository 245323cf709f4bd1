"""How fresh and how fast: one index being written and searched at once.

    OMP_NUM_THREADS=1 python benchmarks/freshness.py
        [--rows 100000] [--dim 384] [--documents 1000000] [--rounds 5]

Prints the goal beside every figure. Comparisons are interleaved, round by round, and give the
median and the spread (lowest and highest). Synthetic clustered vectors; the text of a passage is
some 300 characters.
"""

import argparse
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.options import WriterOptions
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    IndexDelta,
    SourceVersion,
    passage_schema,
)
from vector_index.writer import IndexWriter

EVERYONE = Access("acme", frozenset({"staff"}))
COLUMNS = {"kind": "string", "views": "int"}
SOURCE = SourceVersion("bench", 0, "fp", datetime(2026, 11, 24, tzinfo=UTC))
UNSYNCED = WriterOptions(is_synced=False)
TEXT = "A passage of a document, about as long as a paragraph of a manual is. " * 4


def settings(dim: int, kind: str = "flat") -> IndexSettings:
    identity = EmbedderIdentity("bench", "w", dim)
    return IndexSettings("bench", kind, identity, {}, COLUMNS, has_tenant=True, has_groups=True)


def vectors(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Clustered, float32, normalised; made in blocks so that the maker's peak stays small."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(1).standard_normal((256, dim)).astype(np.float32)
    out = np.empty((rows, dim), np.float32)
    for first in range(0, rows, 8192):
        block = out[first : first + 8192]
        random.standard_normal(out=block, dtype=np.float32)
        block += 2 * centers[random.integers(0, 256, len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return out


def delta(ids: list[str], made: np.ndarray, text: str = TEXT) -> IndexDelta:
    """One passage a document."""
    n = len(ids)
    keys = pa.array(ids, pa.string())
    schema = passage_schema(COLUMNS)
    groups = pa.ListArray.from_arrays(
        pa.array(np.arange(n + 1, dtype=np.int32)), pa.repeat("staff", n)
    )
    kinds = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(n) % 4, pa.int32()), pa.array(["a", "b", "c", "d"])
    ).cast(pa.string())
    metadata = pa.StructArray.from_arrays(
        [kinds, pa.array(np.arange(n), pa.int64())], fields=list(schema.field("metadata").type)
    )
    columns = [
        keys, pa.array(np.zeros(n, np.int32)), keys, pa.repeat(text, n),
        pa.array(np.zeros(n, np.int32)), pa.array(np.full(n, len(text), np.int32)), keys,
        pa.repeat("acme", n), groups, pa.nulls(n, schema.field("updated_at").type), metadata,
    ]  # fmt: skip
    documents = pa.table([keys, keys], schema=DOCUMENT_SCHEMA)
    return IndexDelta(documents, pa.table(columns, schema=schema), made, frozenset())


def keys(rows: int, prefix: str = "doc") -> list[str]:
    return [f"{prefix}-{number}" for number in range(rows)]


def spread(values: list[float], unit: str = "", digits: int = 2) -> str:
    low, middle, high = min(values), float(np.median(values)), max(values)
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f}..{high:.{digits}f})"


def report(what: str, figure: str, goal: str) -> None:
    print(f"{what:<58} {figure:<34} goal {goal}", flush=True)


def upsert_to_visible(writer: IndexWriter, dim: int, count: int) -> list[float]:
    """Milliseconds from the call of upsert until a search has found the new document."""
    taken = []
    for number, vector in enumerate(vectors(count, dim, seed=int(time.time()))):
        change = delta([f"fresh-{number}"], vector[None])
        start = time.perf_counter()
        writer.upsert(change)
        hits = writer.search(vector, k=1, access=EVERYONE).hits
        taken.append((time.perf_counter() - start) * 1e3)
        assert hits[0].passage.document_id == f"fresh-{number}"
    return taken


def bench_freshness(writers: dict[str, IndexWriter], dim: int) -> None:
    for name, writer in writers.items():
        taken = upsert_to_visible(writer, dim, 500)
        p50, p99 = np.percentile(taken, [50, 99])
        report(f"upsert to visible, {name}", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms", "p99 <= 20 ms")


def bench_deletes(home: Path, documents: int, rounds: int) -> None:
    sizes = {"10,000": 10_000, f"{documents:,}": documents}
    writers = {}
    for name, rows in sizes.items():
        writers[name] = IndexWriter(home / name, settings(8), options=UNSYNCED)
        writers[name].publish(delta(keys(rows), vectors(rows, 8), "text"), SOURCE)
    random = np.random.default_rng(0)
    medians: dict[str, list[float]] = {name: [] for name in sizes}
    for _ in range(rounds):
        for name, rows in sizes.items():
            taken = []
            for number in random.integers(0, rows, 300).tolist():
                start = time.perf_counter()
                writers[name].delete([f"doc-{number}"])
                taken.append((time.perf_counter() - start) * 1e3)
            medians[name].append(float(np.median(taken)))
    for name, values in medians.items():
        report(f"one delete of {name} documents, unsynced", spread(values, " ms", 3), "<= 0.1 ms")
    small, large = medians.values()
    ratios = [b / a for a, b in zip(small, large, strict=True)]
    report("  the larger against the smaller", spread(ratios), "<= 1.5")
    for writer in writers.values():
        writer.close()


def queries_per_second(writer: IndexWriter, queries: np.ndarray, seconds: float) -> float:
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        writer.search(queries[count % len(queries)], k=10, access=EVERYONE)
        count += 1
    return count / seconds


def upsert_steadily(
    writer: IndexWriter, dim: int, batch: int, stop: threading.Event, done: list[int]
) -> None:
    """500 rows a second in batches, new documents and replaced ones in turn."""
    pool = [
        delta([f"stream-{(b * batch + n) % 4000}" for n in range(batch)], made)
        for b, made in enumerate(np.split(vectors(batch * 100, dim, seed=5), 100))
    ]
    start, sent = time.perf_counter(), 0
    while not stop.is_set():
        writer.upsert(pool[sent % len(pool)])
        sent += 1
        stop.wait(max(0.0, start + sent * batch / 500 - time.perf_counter()))
    done.append(int(sent * batch / (time.perf_counter() - start)))


def bench_search_under_writes(name: str, writer: IndexWriter, dim: int, rounds: int) -> None:
    queries = vectors(256, dim, seed=3)
    queries_per_second(writer, queries, 1)
    for batch in (1, 10):
        idle, busy, ratios, rates = [], [], [], []
        for _ in range(rounds):
            idle.append(queries_per_second(writer, queries, 2))
            stop, done = threading.Event(), list[int]()
            thread = threading.Thread(target=upsert_steadily, args=(writer, dim, batch, stop, done))
            thread.start()
            busy.append(queries_per_second(writer, queries, 2))
            stop.set()
            thread.join()
            rates += done
            ratios.append(busy[-1] / idle[-1])
            writer.flush()
            writer._merging.wait()
            writer.flush()
        figure = f"{spread(ratios)} of {np.median(idle):.0f}/s"
        what = f"{name}: search under {np.median(rates):.0f} rows/s, {batch} an upsert"
        report(what, figure, ">= 0.80 of idle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, rows, dim = Path(folder), asked.rows, asked.dim
        made = vectors(rows, dim)
        for kind in ("flat", "ivf_flat"):
            change = delta(keys(rows), made)
            LocalIndex(home / kind, settings(dim, kind)).publish(change, SOURCE)
        with IndexWriter(home / "flat", settings(dim), options=UNSYNCED) as unsynced:
            bench_freshness({f"flat {rows:,}, unsynced": unsynced}, dim)
        for kind in ("flat", "ivf_flat"):
            with IndexWriter(home / kind, settings(dim, kind)) as writer:
                bench_freshness({f"{kind} {rows:,}, synced": writer}, dim)
                bench_search_under_writes(kind, writer, dim, asked.rounds)
        bench_deletes(home, asked.documents, asked.rounds)


if __name__ == "__main__":
    main()
