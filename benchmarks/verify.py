"""How long it takes to prove that an index equals its table, and what a proof finds.

    OMP_NUM_THREADS=1 python benchmarks/verify.py [--rows 100000] [--dim 384] [--planted 100]
        [--rounds 5]

Prints the goal beside every figure. A quarter of the planted rows each: deleted from the index,
in the index alone, under another content hash, and under the right hash with another row's text;
the last are found by reading every passage, the others by comparing hashes.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from pipelines.inspection import Columns, inspect
from pipelines.sources import ColumnMapping, DeltaSource
from pipelines.verify import compare
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    EmbedderIdentity,
    IndexDelta,
    passage_schema,
)
from vector_index.writer import IndexWriter

TEXT = "A passage of a document, about as long as a paragraph of a manual is. " * 4
COLUMNS = Columns("id", "title", "body")
MAPPING = ColumnMapping("id", "title", "body")


def table(ids: list[str]) -> pa.Table:
    return pa.table({"id": ids, "title": ids, "body": [f"{TEXT}{one}" for one in ids]})


def delta(
    rows: pa.Table, dim: int, hashes: Mapping[str, str], *, bodies: list[str] | None = None
) -> IndexDelta:
    """One passage a row, with a made-up vector; a row without a hash gets another one."""
    ids, texts = rows["id"].to_pylist(), bodies or rows["body"].to_pylist()
    n = len(ids)
    listed = [hashes.get(one, "another") for one in ids]
    documents = pa.table([ids, listed], schema=DOCUMENT_SCHEMA)
    columns = {
        "document_id": ids, "ordinal": [0] * n, "title": ids, "text": texts,
        "start": [0] * n, "end": [len(text) for text in texts],
        "text_hash": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
        "tenant": [None] * n, "allowed_groups": [None] * n, "updated_at": [None] * n,
        "metadata": [{}] * n,
    }  # fmt: skip
    vectors = np.random.default_rng(0).standard_normal((n, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return IndexDelta(documents, pa.table(columns, schema=passage_schema({})), vectors, frozenset())


def plant(
    index: LocalIndex, home: Path, rows: pa.Table, hashes: Mapping[str, str], planted: int
) -> set[str]:
    """Makes so many documents wrong under the version the index has; returns which."""
    dim = index.settings.embedder.dim
    chosen = np.random.default_rng(1).choice(rows.num_rows, 3 * planted // 4, replace=False)
    gone, hashed, swapped = np.array_split(chosen, 3)
    strays = table([f"stray-{n}" for n in range(planted - len(chosen))])
    deleted = rows["id"].take(pa.array(gone)).to_pylist()
    misread, misfiled = rows.take(pa.array(hashed)), rows.take(pa.array(swapped))
    with IndexWriter(home, index.settings) as writer:
        writer.delete(deleted)
        writer.upsert(delta(strays, dim, {}))
        writer.upsert(delta(misread, dim, {}))
        bodies = misfiled["body"].to_pylist()
        writer.upsert(delta(misfiled, dim, hashes, bodies=[*bodies[1:], bodies[0]]))
        writer.flush()
    index.refresh()
    wrong = [deleted, *(t["id"].to_pylist() for t in (strays, misread, misfiled))]
    return {key for keys in wrong for key in keys}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), asked)


def run(folder: Path, asked: argparse.Namespace) -> None:
    rows = table([f"doc-{number * 7919 % asked.rows:07}" for number in range(asked.rows)])
    write_deltalake(str(folder / "table"), rows)
    identity = EmbedderIdentity("bench", "w", asked.dim)
    settings = IndexSettings("bench", "flat", identity, {}, {}, has_tenant=False, has_groups=False)
    index = LocalIndex(folder / "index", settings)
    snapshot = DeltaSource(folder / "table", MAPPING).snapshot()
    hashes = snapshot.hashes()
    index.publish(delta(rows, asked.dim, hashes), snapshot.version)
    wrong = plant(index, folder / "index", rows, hashes, asked.planted)
    compared, inspected, sampled = [], [], []
    found: set[str] = set()
    for _ in range(asked.rounds):
        began = time.perf_counter()
        drift = compare(snapshot, index)
        compared.append(time.perf_counter() - began)
        began = time.perf_counter()
        inspect(snapshot, index, COLUMNS, skipped=drift.keys(), read=index.read)
        sampled.append(time.perf_counter() - began)
        began = time.perf_counter()
        whole = inspect(
            snapshot, index, COLUMNS, skipped=drift.keys(), sample=None, read=index.read
        )
        inspected.append(time.perf_counter() - began)
        found = set(drift.keys() | whole.faulty())
    print(f"{asked.rows:,} rows x {asked.dim}, {asked.rounds} rounds: median (lowest to highest)")
    show("every key and content hash compared", compared)
    show("a sample of 1,000 documents read", sampled)
    show("every passage of every document read", inspected)
    both = [a + b for a, b in zip(compared, inspected, strict=True)]
    show("hashes and every passage", both, goal="at most 60 s")
    hit, stray = len(found & wrong), len(found - wrong)
    print(f"planted rows found: {hit} of {len(wrong)}, and {stray} others (goal: all, and 0)")


def show(what: str, seconds: list[float], *, goal: str = "") -> None:
    middle = sorted(seconds)[len(seconds) // 2]
    print(f"{what:40} {middle:7.2f} s ({min(seconds):.2f} to {max(seconds):.2f}) {goal}")


if __name__ == "__main__":
    main()
