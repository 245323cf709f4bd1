"""A change set applied by us and by LanceDB (merge_insert, then optimize), each in its own process.

    OMP_NUM_THREADS=1 python benchmarks/change_rivals.py --rival-python <python with lancedb>
        [--rows 100000] [--changed 5000] [--rounds 5]

The table has ids, texts of 40 words and vectors of 384 clustered dimensions. Each round changes
other rows: half of them are new, half replace old ones. Timed is what makes the change searchable
and keeps the index in order: our sync, from finding the Delta commit to the published generation;
LanceDB's merge_insert into a table with an IVF_HNSW_SQ and a full-text index, and its optimize.
Ours has more to do: it reads the change out of Delta. recall@10 is measured after the last round
on vectors of living rows with noise, ours as shipped; LanceDB is given the least `nprobes` that
reaches ours. Rows a second: median, lowest and highest.

CocoIndex is not here. It could run (its version 1 keeps its state in LMDB, and needs no server),
but it drives a target store and has no index of its own: what it writes to LanceDB is searched,
and kept in order, by what is measured here.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM, K, QUERIES = 384, 10, 200
WORDS = [f"word{number}" for number in range(5000)]
Floats = np.ndarray[Any, np.dtype[np.float32]]


def rows(keys: Floats | range | list[int], seed: int) -> pa.Table:
    """Rows whose vectors lie around one of 500 centres."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((500, DIM)).astype(np.float32)
    made = centres[chance.integers(500, size=len(keys))]
    made += chance.standard_normal(made.shape).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    words = chance.integers(len(WORDS), size=(len(keys), 40))
    vector = pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), DIM)
    ids = [f"doc-{key}" for key in keys]
    body = [" ".join(WORDS[word] for word in line) for line in words]
    return pa.table({"id": ids, "title": ids, "body": body, "vector": vector})


class Ours:
    """A Delta table and the index that follows it."""

    def __init__(self, folder: Path, base: pa.Table) -> None:
        from deltalake import write_deltalake
        from sync import Bench

        from pipelines.sources import ColumnMapping

        mapping = ColumnMapping("id", "title", "body", vector="vector")
        self.bench = Bench(folder, mapping, dim=DIM)
        write_deltalake(
            str(self.bench.path), _listed(base),
            configuration={"delta.enableChangeDataFeed": "true"},
        )  # fmt: skip
        self.index = self.bench.new_index(restricted=False)
        self.bench.sync(self.index)

    def apply(self, change: pa.Table) -> float:
        from deltalake import DeltaTable

        merge = DeltaTable(str(self.bench.path)).merge(
            _listed(change), "s.id = t.id", source_alias="s", target_alias="t"
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()
        began = time.perf_counter()
        report = self.bench.sync(self.index)
        taken = time.perf_counter() - began
        assert report.changed == change.num_rows, report
        return taken

    def found(self, queries: Floats, effort: int) -> list[list[str]]:
        from vector_index.passages import Access

        nobody = Access("", frozenset())
        found = [self.index.search(query, k=K, access=nobody).hits for query in queries]
        return [[hit.passage.document_id for hit in hits] for hits in found]


class Lancedb:
    """A table with an index of vectors and one of words."""

    def __init__(self, folder: Path, base: pa.Table) -> None:
        import lancedb
        from lancedb.index import FTS, HnswSq

        self.table = lancedb.connect(str(folder)).create_table("rows", base)
        self.table.create_index("vector", config=HnswSq(distance_type="dot"))
        self.table.create_index("body", config=FTS())

    def apply(self, change: pa.Table) -> float:
        began = time.perf_counter()
        merge = self.table.merge_insert("id").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(change)
        self.table.optimize()
        return time.perf_counter() - began

    def found(self, queries: Floats, effort: int) -> list[list[str]]:
        return [
            self.table.search(query).distance_type("dot").nprobes(effort).limit(K).to_arrow()["id"]
            .to_pylist()
            for query in queries
        ]  # fmt: skip


CONTENDERS = {"ours": Ours, "lancedb": Lancedb}


def serve(name: str, folder: Path) -> None:
    """One contender: a command a line on standard input, an answer a line."""
    answer, sys.stdout = sys.stdout, sys.stderr
    one = CONTENDERS[name](folder / name, pq.read_table(folder / "base.parquet"))
    print("ready", file=answer, flush=True)
    for line in sys.stdin:
        command, value = line.split()
        if command == "apply":
            said: object = one.apply(pq.read_table(folder / value))
        else:
            said = one.found(np.load(folder / "queries.npy"), int(value))
        print(json.dumps(said), file=answer, flush=True)


class Worker:
    """A contender in its process."""

    def __init__(self, python: str, name: str, folder: Path) -> None:
        command = [python, __file__, "--serve", name, "--folder", str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def ask(self, command: str, value: object) -> Any:
        assert self.process.stdin is not None
        print(command, value, file=self.process.stdin, flush=True)
        return json.loads(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"{self.process.args} ended")
        return line


def measure(options: argparse.Namespace, folder: Path) -> None:
    base = rows(range(options.rows), 1)
    pq.write_table(base, folder / "base.parquet")
    now = dict(zip(base["id"].to_pylist(), _matrix(base), strict=True))
    workers = {
        "ours": Worker(sys.executable, "ours", folder),
        "lancedb": Worker(options.rival_python, "lancedb", folder),
    }
    taken: dict[str, list[float]] = {name: [] for name in workers}
    half = options.changed // 2
    for number in range(options.rounds):
        old = np.random.default_rng(number).choice(options.rows, half, replace=False).tolist()
        new = range(options.rows + number * half, options.rows + (number + 1) * half)
        change = rows([*old, *new], 100 + number)
        pq.write_table(change, folder / "change.parquet")
        now.update(zip(change["id"].to_pylist(), _matrix(change), strict=True))
        for name, worker in workers.items():
            taken[name].append(worker.ask("apply", "change.parquet"))
    truth = _queries(now, folder)
    ours = _recall(workers["ours"].ask("find", 0), truth)
    theirs, effort = 0.0, 1
    while theirs < ours and effort < 1024:
        effort *= 2
        theirs = _recall(workers["lancedb"].ask("find", effort), truth)
    print(f"{options.rows:,} rows x {DIM}, {2 * half:,} changed, {options.rounds} rounds")
    for name, recall in (("ours", ours), ("lancedb", theirs)):
        rates = [2 * half / seconds for seconds in taken[name]]
        print(
            f"  {name:8} {statistics.median(rates):,.0f} rows/s ({min(rates):,.0f} to "
            f"{max(rates):,.0f}), recall@10 {recall:.3f}"
        )
    pairs = zip(taken["lancedb"], taken["ours"], strict=True)
    ratios = [rival / mine for rival, mine in pairs]
    middle = statistics.median(ratios)
    print(
        f"  ours is {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) x lancedb (nprobes "
        f"{effort}), goal 1.0 {'met' if middle >= 1 else 'MISSED'}"
    )


def _queries(now: dict[str, Floats], folder: Path) -> list[set[str]]:
    """Writes the queries; the ids that are nearest to each."""
    chance = np.random.default_rng(7)
    ids, vectors = list(now), np.stack(list(now.values()))
    queries = vectors[chance.choice(len(ids), QUERIES, replace=False)]
    queries = queries + 0.02 * chance.standard_normal(queries.shape).astype(np.float32)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    np.save(folder / "queries.npy", queries)
    nearest = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    return [{ids[row] for row in line} for line in nearest]


def _recall(found: list[list[str]], truth: list[set[str]]) -> float:
    pairs = zip(found, truth, strict=True)
    return float(np.mean([len(set(ids) & wanted) / K for ids, wanted in pairs]))


def _matrix(table: pa.Table) -> Floats:
    return np.concatenate(
        [chunk.flatten().to_numpy().reshape(-1, DIM) for chunk in table["vector"].chunks]
    )


def _listed(table: pa.Table) -> pa.Table:
    """Delta keeps no length with a list."""
    column = table["vector"].cast(pa.list_(pa.float32()))
    return table.set_column(table.schema.get_field_index("vector"), "vector", column)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rival-python")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder)
    elif options.rival_python is None:
        parser.error("--rival-python: the interpreter of an environment with lancedb")
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, Path(folder))


if __name__ == "__main__":
    main()
