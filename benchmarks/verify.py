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
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
from deltalake import DeltaTable, write_deltalake

from pipelines.inspection import Columns, inspect
from pipelines.verify import compare
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    EmbedderIdentity,
    IndexDelta,
    SourceVersion,
    passage_schema,
)
from vector_index.writer import IndexWriter

SOURCE = SourceVersion("bench", 0, "fp", datetime(2026, 11, 24, tzinfo=UTC))
TEXT = "A passage of a document, about as long as a paragraph of a manual is. " * 4
COLUMNS = Columns("id", "title", "body")
BATCH = 4096


class TableSnapshot:
    """The table's rows, streamed; a row's hash is that of its text and title."""

    version = SOURCE

    def __init__(self, path: Path) -> None:
        self.dataset: pa_dataset.Dataset = DeltaTable(str(path)).to_pyarrow_dataset()

    def hashes(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for batch in self.rows(None):
            texts = zip(batch["title"].to_pylist(), batch["body"].to_pylist(), strict=True)
            found.update(zip(batch["id"].to_pylist(), map(row_hash, texts), strict=True))
        return found

    def rows(self, keys: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        wanted = None if keys is None else pa.array(keys, pa.string())
        for batch in self.dataset.to_batches(batch_size=BATCH):
            yield batch if wanted is None else batch.filter(pc.is_in(batch["id"], wanted))


def row_hash(values: tuple[str, str]) -> str:
    return hashlib.sha256("\x1f".join(values).encode()).hexdigest()


def table(ids: list[str]) -> pa.Table:
    return pa.table({"id": ids, "title": ids, "body": [f"{TEXT}{one}" for one in ids]})


def delta(
    rows: pa.Table, dim: int, *, hashes: list[str] | None = None, bodies: list[str] | None = None
) -> IndexDelta:
    """One passage a row, with a made-up vector."""
    ids, texts = rows["id"].to_pylist(), bodies or rows["body"].to_pylist()
    n = len(ids)
    right = map(row_hash, zip(ids, rows["body"].to_pylist(), strict=True))
    documents = pa.table([ids, hashes or list(right)], schema=DOCUMENT_SCHEMA)
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


def plant(index: LocalIndex, home: Path, rows: pa.Table, planted: int, dim: int) -> set[str]:
    """Makes so many documents wrong under the version the index has; returns which."""
    chosen = np.random.default_rng(1).choice(rows.num_rows, 3 * planted // 4, replace=False)
    gone, hashed, swapped = np.array_split(chosen, 3)
    strays = table([f"stray-{n}" for n in range(planted - len(chosen))])
    deleted = rows["id"].take(pa.array(gone)).to_pylist()
    misread, misfiled = rows.take(pa.array(hashed)), rows.take(pa.array(swapped))
    with IndexWriter(home, index.settings) as writer:
        writer.delete(deleted)
        writer.upsert(delta(strays, dim))
        writer.upsert(delta(misread, dim, hashes=["another"] * misread.num_rows))
        bodies = misfiled["body"].to_pylist()
        writer.upsert(delta(misfiled, dim, bodies=[*bodies[1:], bodies[0]]))
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
    index.publish(delta(rows, asked.dim), SOURCE)
    wrong = plant(index, folder / "index", rows, asked.planted, asked.dim)
    del rows
    snapshot = TableSnapshot(folder / "table")
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
