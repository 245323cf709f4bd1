"""A first sync against the least it could take: what its table's scan and its index's build cost.

    OMP_NUM_THREADS=1 python benchmarks/bulk.py
        [--rows 100000] [--texts 1000] [--rounds 5] [--only auto|flat|embedding]

`auto`, `flat`: a table with a vector column, 384 dimensions, against the floor: DuckDB reads ids,
texts and vectors, and FAISS makes the index that is published: the same kind, with the same
training. The floor checks no key, hashes no row, builds no full text and writes nothing to the
disk; a sync does all of it. With `flat` the index is a copy of memory, so what is measured there
is mostly that. `embedding`: the int8 MiniLM embeds every text, against the same embedder given the
same texts alone. Rates are rows a second; ratios are of the rounds, which are interleaved: median,
lowest and highest.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
from sync import BACKFILL_DIM, BY_VECTOR, Bench, timed

from llm_endpoint import find_card
from llm_endpoint.embedding.onnx import OnnxEmbedder
from pipelines.chunking import token_chunker
from vector_index.kinds import KINDS, KindName

GOALS = {"auto": 0.6, "flat": 0.6, "embedding": 0.9}


@dataclass(slots=True)
class Pair:
    """Seconds of ours and of the floor, a value a round."""

    ours: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)

    def measure(self, ours: Callable[[], object], floor: Callable[[], object]) -> None:
        self.floor.append(timed(floor))
        self.ours.append(timed(ours))

    def show(self, name: str, rows: int) -> None:
        ratios = [b / a for a, b in zip(self.ours, self.floor, strict=True)]
        middle, goal = statistics.median(ratios), GOALS[name]
        print(
            f"{name:10} ours {_rates(rows, self.ours)}, floor {_rates(rows, self.floor)}; ratio "
            f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), goal {goal} "
            f"{'met' if middle >= goal else 'MISSED'}",
            flush=True,
        )


def by_vector(folder: Path, name: str, rows: int, rounds: int) -> None:
    bench = Bench(folder, BY_VECTOR, dim=BACKFILL_DIM)
    bench.write(range(rows), with_vectors=True)
    files = [str(path) for path in sorted((folder / "table").glob("*.parquet"))]
    kind: KindName = "flat" if name == "flat" else "ivf_sq8"  # what `auto` takes from 21,846 rows
    pair = Pair()
    for _ in range(rounds):
        index = bench.new_index(kind)
        pair.measure(lambda i=index: bench.sync(i), lambda: _scan_and_add(files, kind))
    pair.show(name, rows)


def _scan_and_add(files: Sequence[str], kind: KindName) -> None:
    query = duckdb.sql("SELECT id, title, body, vector FROM read_parquet($1)", params=[list(files)])
    blocks = [
        batch.column("vector").flatten().to_numpy(zero_copy_only=False)
        for batch in query.to_arrow_reader(8192)
    ]
    KINDS[kind].build(np.concatenate(blocks).reshape(-1, BACKFILL_DIM))


def with_embedding(folder: Path, rows: int, rounds: int) -> None:
    card = find_card("all-minilm-l6-v2-int8")
    weights = Path(os.environ.get("HEADRACE_WEIGHTS_DIR", ".headrace/weights")) / card.name
    embedder = OnnxEmbedder(
        weights / "model.onnx", weights / "tokenizer.json",
        id=card.name, weights_sha256=card.weights_sha256,
    )  # fmt: skip
    bench = Bench(folder)
    bench.embedder, bench.chunk = embedder, token_chunker(embedder.info.tokenizer_file, 200)
    bench.write(range(rows))
    texts = bench.texts()
    pair = Pair()
    for _ in range(rounds):
        index = bench.new_index()
        pair.measure(lambda i=index: bench.sync(i), lambda: embedder.embed_passages(texts))
    pair.show("embedding", rows)


def _rates(rows: int, seconds: Sequence[float]) -> str:
    low, middle, high = (rows / s for s in (max(seconds), statistics.median(seconds), min(seconds)))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--texts", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(GOALS))
    arguments = parser.parse_args()
    for name in GOALS:
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                if name == "embedding":
                    with_embedding(Path(folder), arguments.texts, arguments.rounds)
                else:
                    by_vector(Path(folder), name, arguments.rows, arguments.rounds)


if __name__ == "__main__":
    main()
