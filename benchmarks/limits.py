"""How near the index comes to what the machine allows: memory, arithmetic, FAISS by itself.

One line a claim: what was measured, the goal, and whether it is met.

- A flat scan of one query reads all vectors: its bytes a second against those of the fastest of
  three plain readers of as many bytes (`np.sum`, `np.dot`, a matrix-vector product).
- 64 queries at once against the bare matrix product of the same shape, products written out.
- Resident memory of an opened flat index after searches, in a process of its own: the growth of
  all its resident pages, the mapped ones included, against the vectors' bytes; but for those of
  the passages' file, which the kernel maps 64 KB around each passage returned and drops at will.
- Peak memory of a publish, in a process of its own: the growth of the largest resident set over
  what was there before the delta was, its own vectors and text included.
- Both have used a small index before: what libraries take once is left out.
- Rows built, and merged from two halves, a second, against `train` and `add` of the same index
  in FAISS with the same settings, over all rows, nothing written by either.

Times are medians of rounds in which the two sides take turns, with the lowest and highest round.

    OMP_NUM_THREADS=1 python benchmarks/limits.py [--rows 100000] [--dim 384] [--kinds flat,hnsw]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from corpora import Floats, K, clustered

from vector_index.kinds import KINDS, KindName, SegmentVectors, merge_vectors
from vector_index.kinds import hnsw as hnsw_kinds
from vector_index.kinds import ivf as ivf_kinds
from vector_index.plan import nearest

BATCH = 64
QUERIES = 256
_CHILD = Path(__file__).with_name("limits_memory.py")
_FAR_BEYOND_CACHES = 128 << 20
BUILT_KINDS = ("flat", "ivf_flat", "ivf_sq8", "ivf_rabitq", "hnsw", "hnsw_sq8")
Work = Callable[[], Any]


def main() -> None:
    """Measures every claim."""
    options = _parse()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("NumPy reads its number of threads at start: run with OMP_NUM_THREADS=1")
    print(f"{options.rows:,} x {options.dim}, {options.rounds} rounds, one thread")
    if options.rows * options.dim * 4 < _FAR_BEYOND_CACHES:
        print("the vectors may lie in the processor's cache: its speed is then the limit's")
    vectors = clustered(options.rows + QUERIES, options.dim)
    queries, vectors = vectors[:QUERIES].copy(), vectors[QUERIES:].copy()
    with tempfile.TemporaryDirectory() as folder:
        KINDS["flat"].build(vectors).write(Path(folder))
        segment = KINDS["flat"].open(Path(folder))
        _compare_bandwidth(segment, queries, options.rounds)
        _compare_product(segment, queries, options.rounds)
    del segment
    of_vectors = "in vectors' bytes"
    _claim_memory(
        "publish", f"peak memory to publish, the delta included, {of_vectors}", options, 2.2
    )
    _claim_memory(
        "resident", f"resident after {QUERIES} flat searches, {of_vectors}", options, 1.15
    )
    for kind in options.kinds.split(","):
        _compare_build(kind, vectors, options.rounds)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default=",".join(BUILT_KINDS), help="for build and merge")
    return parser.parse_args()


def _compare_bandwidth(segment: SegmentVectors, queries: Floats, rounds: int) -> None:
    plain = np.array(segment.originals)
    ones = np.ones(plain.size, np.float32)
    readers: dict[str, Work] = {
        "np.sum": plain.sum,
        "np.dot": lambda: np.dot(plain.ravel()[: plain.size // 2], ones[: plain.size // 2]),
        "matrix-vector": lambda: plain @ queries[0],
    }
    flat: Work = lambda: nearest(segment, queries[:1], K)  # noqa: E731
    times = _rounds({"flat": flat, **readers}, rounds)
    # np.dot reads two halves, the others all bytes once: the same number of bytes.
    best = min(readers, key=lambda name: statistics.median(times[name]))
    speed = plain.nbytes / statistics.median(times[best]) / 1e9
    _claim(
        f"flat scan of one query against {best}, {speed:.1f} GB/s",
        [limit / own for own, limit in zip(times["flat"], times[best], strict=True)],
        at_least=0.7,
    )


def _compare_product(segment: SegmentVectors, queries: Floats, rounds: int) -> None:
    batch, plain = queries[:BATCH], np.array(segment.originals)
    products = np.empty((BATCH, len(plain)), np.float32)
    work: dict[str, Work] = {
        "flat": lambda: nearest(segment, batch, K),
        "sgemm": lambda: np.matmul(batch, plain.T, out=products),
    }
    times = _rounds(work, rounds)
    operations = 2 * BATCH * plain.size
    speed = operations / statistics.median(times["sgemm"]) / 1e9
    _claim(
        f"flat search of {BATCH} at once against sgemm, {speed:.0f} GFLOP/s",
        [limit / own for own, limit in zip(times["flat"], times["sgemm"], strict=True)],
        at_least=0.5,
    )


def _claim_memory(child: str, title: str, options: argparse.Namespace, goal: float) -> None:
    """A claim measured in a fresh process a round."""
    with tempfile.TemporaryDirectory() as folder:
        _run_child("written", folder, options)
        answers = [_run_child(child, folder, options) for _ in range(options.rounds)]
    _claim(title, [answer["share"] for answer in answers], at_most=goal)
    for name in list(answers[0])[1:]:
        print(f"    {name}: {_middle([answer[name] for answer in answers])}")


def _run_child(child: str, folder: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, str(_CHILD), child, "--home", folder]
    command += ["--rows", str(options.rows), "--dim", str(options.dim)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _compare_build(kind: KindName, vectors: Floats, rounds: int) -> None:
    half = len(vectors) // 2
    first = KINDS[kind].build(vectors[:half])
    second = KINDS[kind].build(vectors[half:], like=first)
    parts = [(part, np.arange(part.count)) for part in (first, second)]
    work: dict[str, Work] = {
        "build": lambda: KINDS[kind].build(vectors),
        "merge": lambda: merge_vectors(parts, kind),
        "FAISS": lambda: _raw_build(kind, vectors),
    }
    times = _rounds(work, rounds)
    raw = len(vectors) / statistics.median(times["FAISS"])
    for name in ("build", "merge"):
        _claim(
            f"{kind}: {name} against FAISS, {raw:,.0f} rows/s",
            [limit / own for own, limit in zip(times[name], times["FAISS"], strict=True)],
            at_least=0.8,
        )


def _raw_build(kind: KindName, vectors: Floats) -> Any:
    """The same index by FAISS's own train and add, with its own default k-means."""
    dim, metric = vectors.shape[1], faiss.METRIC_INNER_PRODUCT
    lists = ivf_kinds.list_count(len(vectors))
    factory = {
        "flat": "Flat",
        "ivf_flat": f"IVF{lists},Flat",
        "ivf_sq8": f"IVF{lists},SQ8",
        "ivf_rabitq": f"IVF{lists},RaBitQfs",
        "hnsw": f"HNSW{hnsw_kinds.M},Flat",
        "hnsw_sq8": f"HNSW{hnsw_kinds.M},SQ8",
    }
    index: Any = faiss.index_factory(dim, factory[kind], metric)
    if kind.startswith("hnsw"):
        index.hnsw.efConstruction = hnsw_kinds._EF_CONSTRUCTION
    if kind.startswith("ivf"):
        # Its default of 256 rows a list would make FAISS four times slower than it need be.
        index.cp.max_points_per_centroid = ivf_kinds._TRAINING_ROWS_PER_LIST
    index.train(vectors)
    index.add(vectors)
    return index


def _rounds(work: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds by name and round, each the best of a few; all take turns within a round."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, do in work.items():
            spent = _seconds(do)
            if number:  # the first one warms up
                times[name].append(spent)
    return times


def _seconds(do: Work) -> float:
    """The best of as many runs as fit half a second, one at least."""
    best, until = float("inf"), time.perf_counter() + 0.5
    while True:
        started = time.perf_counter()
        do()
        ended = time.perf_counter()
        best = min(best, ended - started)
        if ended > until:
            return best


def _claim(
    title: str, values: list[float], *, at_least: float | None = None, at_most: float | None = None
) -> None:
    median = statistics.median(values)
    if at_least is not None:
        goal, is_met = f">= {at_least}", median >= at_least
    else:
        assert at_most is not None
        goal, is_met = f"<= {at_most}", median <= at_most
    print(f"{title}: {_middle(values)}; goal {goal} {'met' if is_met else 'MISSED'}", flush=True)


def _middle(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


if __name__ == "__main__":
    main()
