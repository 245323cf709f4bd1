"""Segments on the CPU beside their copies on a GPU: rows, recall, latency, queries a second.

Data, recall and rounds are those of benchmarks/kinds.py. Needs faiss-gpu or faiss-gpu-cuvs and a
card; ends with an error where a copy does not give what it promises, so it is a test as well:
`flat` must give the rows of the CPU, the IVF kinds nearly all of them at the same recall, a graph
the recall of HNSW; filters and tombstones likewise, through the planner; and a card must take
copies again and again once they are freed. `--stand-in` runs all of it on the CPU, which measures
the batching alone.

    OMP_NUM_THREADS=1 python benchmarks/gpu.py [--rows 1000000] [--dim 384] [--device 0]
"""

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import faiss
import numpy as np
from kinds import Data, Floats, K, Mask, Search, batches, make_data, middle, recall

from vector_index.errors import GpuUnavailable
from vector_index.gpu import CpuAccelerator, Device, gpu_support, open_device
from vector_index.kinds import KINDS, KindName, SegmentVectors
from vector_index.plan import nearest

ROUNDS = 7
ROUND_S = 0.5
THREADS = (1, 4, 16, 64)
RELOADS = 20
# Rows that a copy may find otherwise than the CPU, for how a card rounds; and recall lost. Even
# the CPU orders two rows of nearly one product otherwise in a batch than alone.
OTHER_ROWS = {"flat": 0.001, "ivf_flat": 0.002, "ivf_sq8": 0.005}
LOST_RECALL = {"flat": 0.001, "ivf_flat": 0.002, "ivf_sq8": 0.005, "hnsw": 0.02, "hnsw_sq8": 0.02}


def main() -> None:
    """Measures and checks the kinds named on the command line."""
    options = parse()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("NumPy reads its number of threads at start: run with OMP_NUM_THREADS=1")
    device = open_chosen(options)
    print(f"{options.rows:,} x {options.dim} on {device.name}, faiss {faiss.__version__}, "
          f"{gpu_support()}; recall@{K}, ms a query")  # fmt: skip
    data = make_data(options.rows, options.dim)
    for kind in options.kinds.split(","):
        compare(kind, data, device)
    device.close()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--memory-gb", type=float, default=16.0)
    parser.add_argument("--kinds", default="flat,ivf_flat,ivf_sq8,hnsw")
    parser.add_argument("--stand-in", action="store_true")
    return parser.parse_args()


def open_chosen(options: argparse.Namespace) -> Device:
    """The card asked for, or the CPU in its place. Ends the program where there is no card."""
    memory_bytes = int(options.memory_gb * 1e9)
    if options.stand_in:
        return Device(CpuAccelerator(), name="stand-in", memory_bytes=memory_bytes)
    try:
        return open_device(options.device, memory_bytes=memory_bytes)
    except GpuUnavailable as exc:
        sys.exit(str(exc))


def compare(kind: KindName, data: Data, device: Device) -> None:
    """Builds a segment, copies it, checks the copy and prints both."""
    segment = KINDS[kind].build(data.vectors)
    started = time.perf_counter()
    replica = device.replica(kind, segment)
    if replica is segment:
        print(f"\n{kind}: no copy on {device.name}")
        return
    print(f"\n{kind}: copied in {time.perf_counter() - started:.2f} s")
    check(kind, data, segment, replica)
    measure(data, segment, replica)
    del replica
    reload_often(kind, segment, device)


def measure(data: Data, segment: SegmentVectors, replica: SegmentVectors) -> None:
    """Prints latency alone, and queries a second of several callers, beside the CPU's."""
    rivals: dict[str, Search] = {
        "ours": lambda q: nearest(replica, q, K)[1],
        "CPU": lambda q: nearest(segment, q, K)[1],
    }
    batches(data, rivals)
    for threads in THREADS:
        queries_a_second(data, rivals, threads)


def check(kind: KindName, data: Data, segment: SegmentVectors, replica: SegmentVectors) -> None:
    """Ends the program where the copy does not give what it promises."""
    rng = np.random.default_rng(1)
    dead = rng.random(segment.count) < 0.1
    for share in (1.0, 0.9, 0.5, 0.1, 0.001):
        allowed = None if share == 1 else rng.random(segment.count) < share
        for tombstones in (None, dead):
            check_once(kind, data, segment, replica, allowed, tombstones)


def check_once(
    kind: KindName,
    data: Data,
    segment: SegmentVectors,
    replica: SegmentVectors,
    allowed: Mask | None,
    dead: Mask | None,
) -> None:
    """As `check`, under one filter and set of tombstones."""

    def search(vectors: SegmentVectors, queries: Floats) -> tuple[Floats, np.ndarray]:
        is_dead = None if dead is None else dead.__getitem__
        return nearest(vectors, queries, K, allowed=allowed, is_dead=is_dead,
                       dead_share=0.0 if dead is None else 0.1)  # fmt: skip

    good = np.ones(segment.count, np.bool_) if allowed is None else allowed.copy()
    good &= True if dead is None else ~dead
    (scores, rows), (_, expected) = search(replica, data.queries), search(segment, data.queries)
    name = f"{kind}, {good.mean():.1%} of the rows"
    if not good[rows].all():
        fail(f"{name}: a row that is not allowed was returned")
    products = np.take_along_axis(data.products, rows, axis=1)
    if not np.allclose(scores, products, atol=1e-5):
        fail(f"{name}: a score is off by {np.abs(scores - products).max():.1e}")
    if kind in OTHER_ROWS:
        other = 1 - np.mean([len(set(a) & set(b)) / K for a, b in zip(rows, expected, strict=True)])
        if other > OTHER_ROWS[kind]:
            fail(f"{name}: {other:.2%} of the rows are not those of the CPU")
    found = [recall(lambda q, v=v: search(v, q)[1], data, good) for v in (replica, segment)]
    print(f"  {name}: recall {found[0]:.3f}, on the CPU {found[1]:.3f}")
    if found[0] < found[1] - LOST_RECALL[kind]:
        fail(f"{name}: recall is {found[0]:.3f}, on the CPU {found[1]:.3f}")


def queries_a_second(data: Data, rivals: dict[str, Search], threads: int) -> None:
    """Prints what this many callers get who ask one query at a time; rivals take turns."""
    rates: dict[str, list[float]] = {name: [] for name in rivals}
    with ThreadPoolExecutor(threads) as pool:
        for number in range(ROUNDS + 1):
            for name, search in rivals.items():
                rate = one_round(pool, data, search, threads)
                if number:  # the first one warms up
                    rates[name].append(rate)
    line = [f"{name} {middle(values, ',.0f')}" for name, values in rates.items()]
    ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates["CPU"], strict=True))
    print(
        f"    {threads:2} callers, queries a second: {', '.join(line)} = x {ratio:.2f}", flush=True
    )


def one_round(pool: ThreadPoolExecutor, data: Data, search: Search, threads: int) -> float:
    """Queries a second over half a second, by this many callers."""
    until = time.perf_counter() + ROUND_S

    def call(first: int) -> int:
        asked = 0
        while time.perf_counter() < until:
            start = (first + asked * threads) % len(data.queries)
            search(data.queries[start : start + 1])
            asked += 1
        return asked

    started = time.perf_counter()
    asked = sum(pool.map(call, range(threads)))
    return asked / (time.perf_counter() - started)


def reload_often(kind: KindName, segment: SegmentVectors, device: Device) -> None:
    """Ends the program where freed copies do not give their memory back."""
    for number in range(RELOADS if not kind.startswith("hnsw") else 2):
        replica = device.replica(f"{kind} again", segment)
        if replica is segment:
            fail(f"{kind}: the card took no copy after {number} were freed")
        del replica


def fail(message: str) -> NoReturn:
    """Ends the program with an error."""
    sys.exit(f"FAILED: {message}")


if __name__ == "__main__":
    main()
