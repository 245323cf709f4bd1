"""What a sync costs: nothing changed, one row in a hundred changed, and how soon a commit is found.

    OMP_NUM_THREADS=1 python benchmarks/sync.py
        [--rows 100000] [--rounds 5] [--commits 100] [--large]
        [--only unchanged|share|backfill|watch]

Prints the goal beside every figure; median and spread (lowest and highest) of interleaved rounds.
The hashing embedder stands for a model that costs next to nothing: the share that a small change
takes of a full sync is at its worst with it. --large adds a million rows to `unchanged`.
"""

import argparse
import multiprocessing
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.chunking import token_chunker
from pipelines.sources import ColumnMapping, DeltaSource
from pipelines.sync import SyncReport, sync
from pipelines.watch import Watcher
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import Access, EmbedderIdentity

MAPPING = ColumnMapping("id", "title", "body", ("kind",), "tenant", "groups")
BY_VECTOR = ColumnMapping("id", "title", "body", ("kind",), "tenant", "groups", vector="vector")
STAFF = Access("acme", frozenset({"staff"}))
WORDS = [f"word{number}" for number in range(5000)]
DIM = 64
BACKFILL_DIM = 384


class Counting(HashingEmbedder):
    """Counts the texts it is given."""

    texts = 0

    def embed_passages(self, texts: Sequence[str], **options: object) -> np.ndarray:
        self.texts += len(texts)
        return super().embed_passages(texts)


class Bench:
    """A table with its feed on, an index of it, and a sync of the one into the other."""

    def __init__(self, folder: Path, mapping: ColumnMapping = MAPPING, *, dim: int = DIM) -> None:
        self.folder, self.path = folder, folder / "table"
        self.embedder, self.chunk = Counting(dim), token_chunker(None, 200)
        self.source = DeltaSource(self.path, mapping)
        self.homes = 0

    def write(self, keys: range, *, seed: int = 0, with_vectors: bool = False) -> None:
        """Appends rows, a hundred thousand a commit."""
        for first in range(0, len(keys), 100_000):
            some = keys[first : first + 100_000]
            table = rows(some, seed + first)
            if with_vectors:
                table = table.append_column(
                    "vector", vectors(len(some), self.embedder.info.dim, seed + first)
                )
            write_deltalake(
                str(self.path), table, mode="append",
                configuration={"delta.enableChangeDataFeed": "true"},
            )  # fmt: skip

    def update(self, keys: Sequence[int], seed: int) -> None:
        """Gives these rows another text, in one MERGE."""
        merge = DeltaTable(str(self.path)).merge(
            rows(keys, seed), "s.id = t.id", source_alias="s", target_alias="t"
        )
        merge.when_matched_update_all().execute()

    def texts(self) -> list[str]:
        """Every text, in the order of the table."""
        body: list[str] = self.source.snapshot().table.to_pyarrow_table()["body"].to_pylist()
        return body

    def new_index(self, kind: str = "auto", *, restricted: bool = True) -> LocalIndex:
        """An index that nothing has been published to."""
        self.homes += 1
        info = self.embedder.info
        settings = IndexSettings(
            "bench", kind, EmbedderIdentity(info.id, info.weights_sha256, info.dim), {},
            self.source.metadata_types(), has_tenant=restricted, has_groups=restricted,
        )  # fmt: skip
        return LocalIndex(self.folder / f"index{self.homes}", settings)

    def sync(self, index: LocalIndex) -> SyncReport:
        return sync(self.source, index, self.embedder, self.chunk)


def rows(keys: Sequence[int], seed: int) -> pa.Table:
    """Documents of some 40 words."""
    chance = random.Random(seed)
    n = len(keys)
    return pa.table(
        {
            "id": [f"doc-{key}" for key in keys],
            "title": [f"document {key}" for key in keys],
            "body": [" ".join(chance.choices(WORDS, k=40)) for _ in keys],
            "kind": pa.array(["note"] * n, pa.string()),
            "tenant": ["acme"] * n,
            "groups": pa.array([["staff"]] * n, pa.list_(pa.string())),
        }
    )


def vectors(n: int, dim: int, seed: int) -> pa.Array:
    made = np.random.default_rng(seed).standard_normal(n * dim, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(made), dim).cast(pa.list_(pa.float32()))


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shown(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{middle * 1000:9.1f} ms ({min(values) * 1000:.1f} to {max(values) * 1000:.1f})"


def unchanged(folder: Path, sizes: Sequence[int], rounds: int) -> None:
    print("no change: a sync of an index that is at the table's version (goal: 200 ms, constant)")
    benches = []
    for size in sizes:
        bench = Bench(folder / str(size), BY_VECTOR)
        bench.write(range(size), with_vectors=True)
        index = bench.new_index()
        bench.sync(index)
        benches.append((size, bench, index, []))
    for _ in range(max(rounds, 5)):
        for _, bench, index, taken in benches:
            taken.append(timed(lambda b=bench, i=index: b.sync(i)))
    for size, _, _, taken in benches:
        print(f"  {size:9,} rows {shown(taken)}")


def share(folder: Path, size: int, rounds: int) -> None:
    print(f"1% of {size:,} rows changed, against a full sync (goal: 3% of its time)")
    bench = Bench(folder)
    bench.write(range(size))
    index = bench.new_index()
    bench.sync(index)
    full, part, ratios = [], [], []
    for number in range(rounds):
        keys = random.Random(number).sample(range(size), size // 100)
        bench.update(keys, 1000 + number)
        bench.embedder.texts = 0
        part.append(timed(lambda: bench.sync(index)))
        embedded = bench.embedder.texts
        assert embedded == len(keys), f"{embedded} texts were embedded, {len(keys)} had changed"
        fresh = bench.new_index()
        full.append(timed(lambda f=fresh: bench.sync(f)))
        ratios.append(part[-1] / full[-1])
    print(f"  full {shown(full)}, 1% {shown(part)}; exactly {size // 100} texts embedded")
    print(f"  share {statistics.median(ratios):.2%} ({min(ratios):.2%} to {max(ratios):.2%})")


def watch(folder: Path, size: int, commits: int) -> None:
    print("commit to searchable in watch mode (goal: p50 300 ms, p99 1000 ms)")
    bench = Bench(folder)
    bench.write(range(size))
    index = bench.new_index()
    bench.sync(index)
    watcher = Watcher(
        bench.source,
        lambda progress: sync(bench.source, index, bench.embedder, bench.chunk,
                              on_progress=progress),
    )  # fmt: skip
    watcher.start()
    taken, chance = [], random.Random(0)
    try:
        for number in range(commits):
            time.sleep(chance.uniform(0, 0.5))
            word = f"needle{number}"
            row = rows([size + number], number).set_column(2, "body", pa.array([word]))
            write_deltalake(str(bench.path), row, mode="append")
            taken.append(timed(lambda w=word: until_found(index, w)))
    finally:
        watcher.stop()
    p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1000
    state = watcher.state()
    print(
        f"  {size:,} rows, {commits} commits: p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest "
        f"{max(taken) * 1000:.0f} ms; {state.syncs} syncs, {state.failures} failures"
    )


def backfill(folder: Path, size: int) -> None:
    print(f"back-fill of {size:,} rows x {BACKFILL_DIM} with a vector column, a process of its own")
    bench = Bench(folder, BY_VECTOR, dim=BACKFILL_DIM)
    bench.write(range(size), with_vectors=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before, peak, taken = pool.apply(_backfill, (folder,))
    print(
        f"  {taken:.1f} s, {size / taken:,.0f} rows/s; resident {before / 1e6:.0f} MB before, peak "
        f"{peak / 1e6:.0f} MB (goal: 2,500 MB for a million rows; the vectors alone are "
        f"{size * BACKFILL_DIM * 4 / 1e6:.0f} MB)"
    )


def _backfill(folder: Path) -> tuple[int, int, float]:
    """Resident bytes before and at the peak, mapped files that are in memory included; seconds."""
    bench = Bench(folder, BY_VECTOR, dim=BACKFILL_DIM)
    index = bench.new_index()
    process = psutil.Process()
    before = peak = process.memory_info().rss
    done = threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(0.02):
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(resident(one) for one in family))

    thread = threading.Thread(target=look)
    thread.start()
    taken = timed(lambda: bench.sync(index))
    done.set()
    thread.join()
    return before, peak, taken


def resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def until_found(index: LocalIndex, word: str) -> None:
    waiting = threading.Event()
    while not index.search(None, text=word, k=1, access=STAFF, mode="full_text").hits:
        waiting.wait(0.002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", choices=["unchanged", "share", "watch", "backfill"])
    arguments = parser.parse_args()
    sizes = [arguments.rows // 10, arguments.rows, *([1_000_000] if arguments.large else [])]
    parts = {
        "unchanged": lambda folder: unchanged(folder, sizes, arguments.rounds),
        "share": lambda folder: share(folder, arguments.rows, arguments.rounds),
        "backfill": lambda folder: backfill(folder, arguments.rows),
        "watch": lambda folder: watch(folder, arguments.rows // 10, arguments.commits),
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder))


if __name__ == "__main__":
    main()
