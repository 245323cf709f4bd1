"""Every index kind: build, recall, latency, memory; and the planner against raw FAISS.

The data, made from a fixed seed: 1,000 Gaussian centres in 64 dimensions, points around them
with 1.2 times their spread, turned into `--dim` dimensions by a random orthonormal basis, with
isotropic noise of 0.05 a dimension, L2-normalised. Clusters overlap: about a tenth of a query's
true ten nearest lie in another cluster than the one it was drawn from. Queries are drawn as rows.

Everything runs on one thread, and times are those the thread ran, so that what else the machine
does counts less. The rival is the same FAISS index searched through FAISS's own Python interface;
rivals are interleaved with us, round by round. Prints medians and, in brackets, the lowest and
highest round. Filters keep random rows, tombstones are random rows.

    OMP_NUM_THREADS=1 python benchmarks/kinds.py [--rows 100000] [--dim 384] [--kinds flat,ivf_flat]

With `--cache DIR` the rows are those of benchmarks/rivals.py, and so are the indexes, which
`rivals.py --cache DIR --rows N --build-only --only ours:` builds, so that a million rows are not
built at every run.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
from corpora import Corpus, load_corpus
from numpy.typing import NDArray

from vector_index.kinds import KINDS, KindName, SegmentVectors
from vector_index.plan import nearest

K = 10
ROUNDS = 7
QUERIES = 256
RECALL = 0.95

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Search = Callable[[Floats], Rows]


@dataclass(frozen=True, slots=True)
class Data:
    """Rows float32 (n, dim), queries float32 (256, dim), and all their products."""

    vectors: Floats
    queries: Floats
    products: Floats


def main() -> None:
    """Measures the kinds named on the command line."""
    options = parse()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("NumPy reads its number of threads at start: run with OMP_NUM_THREADS=1")
    cache = options.cache and load_corpus(options.cache, "clustered", options.rows, options.dim)
    data = of_corpus(cache) if cache else make_data(options.rows, options.dim)
    size = f"{options.rows:,} x {options.dim}"
    print(f"{size}, recall@{K} and ms a query, 1 thread, faiss {faiss.__version__}")
    shares = [float(share) for share in options.shares.split(",")]
    for kind in options.kinds.split(","):
        if cache:
            measure(kind, data, cache.folder / f"ours_{kind}", shares)
            continue
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            KINDS[kind].build(data.vectors).write(Path(folder))
            print(f"\n{kind}: built and written in {time.perf_counter() - started:.1f} s")
            measure(kind, data, Path(folder), shares)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--cache", type=Path, help="the folder of rivals.py, to build nothing")
    parser.add_argument("--shares", default="0.5,0.1,0.01,0.001", help="rows that filters keep")
    return parser.parse_args()


def make_data(rows: int, dim: int) -> Data:
    """The data set described above."""
    rng = np.random.default_rng(0)
    latent = min(64, dim)
    basis = np.linalg.qr(rng.standard_normal((dim, latent)))[0].T
    centres = rng.standard_normal((1000, latent))
    own = rng.integers(0, len(centres), rows + QUERIES)
    points = (centres[own] + 1.2 * rng.standard_normal((len(own), latent))) @ basis
    points += 0.05 * rng.standard_normal(points.shape)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    vectors, queries = points[:rows].astype(np.float32), points[rows:].astype(np.float32)
    return Data(vectors, queries, queries @ vectors.T)


def of_corpus(corpus: Corpus) -> Data:
    """The first queries of a corpus that rivals.py made."""
    queries = corpus.queries[:QUERIES]
    return Data(corpus.vectors, queries, queries @ corpus.vectors.T)


def measure(kind: KindName, data: Data, folder: Path, shares: list[float]) -> None:
    """Prints everything about one kind."""
    size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    segment = KINDS[kind].open(folder)
    everything = np.ones(segment.count, np.bool_)
    found = recall(lambda q: nearest(segment, q, K)[1], data, true_rows(data, everything))
    print(f"\n{kind}: {size_mb:.0f} MB on disk, recall {found:.3f}")
    resident(folder)
    if kind == "exact":
        batches(data, {"ours": lambda q: nearest(segment, q, K)[1]})
        return
    index = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
    compare_plain(segment, index, data)
    compare_tombstones(segment, index, data)
    for share in shares:
        compare_filter(segment, index, data, share)


def resident(folder: Path) -> None:
    """Prints how much of each mapped file the searches so far have brought into memory."""
    maps = psutil.Process().memory_maps(grouped=False)
    parts = [
        f"{Path(m.path).name} {m.rss / 1e6:.0f} of {m.size / 1e6:.0f} MB"
        for m in maps
        if m.path.startswith(str(folder))
    ]
    print(f"  mapped and resident after {QUERIES} queries: {', '.join(parts)}")


def compare_plain(segment: SegmentVectors, index: Any, data: Data) -> None:
    """`nearest` beside the same index in FAISS, and beside it with FAISS's own refinement."""
    raw = raw_search(segment, index)
    batches(data, {"ours": lambda q: nearest(segment, q, K)[1], "raw FAISS": raw})


def compare_tombstones(segment: SegmentVectors, index: Any, data: Data) -> None:
    """A tenth of the rows dead, against raw FAISS with nothing dead."""
    dead = np.random.default_rng(1).random(segment.count) < 0.1

    def ours(queries: Floats) -> Rows:
        return nearest(segment, queries, K, is_dead=dead.__getitem__, dead_share=0.1)[1]

    print(f"  10 % tombstones: recall {recall(ours, data, true_rows(data, ~dead)):.3f}")
    batches(data, {"ours": ours, "raw FAISS": raw_search(segment, index)})


def compare_filter(segment: SegmentVectors, index: Any, data: Data, share: float) -> None:
    """A filter keeping this share, against the three plain ways at recall 0.95 or better."""
    allowed = np.random.default_rng(2).random(segment.count) < share
    rivals: dict[str, Search] = {"ours": lambda q: nearest(segment, q, K, allowed=allowed)[1]}
    truth = true_rows(data, allowed)
    rivals["survivors"] = lambda q: scan_survivors(q, data.vectors, allowed)
    for name, make in (("bitmap", bitmap_search), ("post-filter", post_filter)):
        if tuned := tune(lambda effort, m=make: m(segment, index, allowed, effort), data, truth):
            rivals[name] = tuned
    print(f"  filter keeping {share:.1%}: recall {recall(rivals['ours'], data, truth):.3f}")
    batches(data, rivals)


def scan_survivors(queries: Floats, vectors: Floats, allowed: Mask) -> Rows:
    """What one would write in NumPy: gather, multiply, partition."""
    rows = np.flatnonzero(allowed)
    products = queries @ vectors[rows].T
    k = min(K, len(rows))
    best = np.argpartition(-products, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(products, best, axis=1), axis=1)
    return rows[np.take_along_axis(best, order, axis=1)]


def bitmap_search(segment: SegmentVectors, index: Any, allowed: Mask, effort: float) -> Search:
    """FAISS's own filter, as wide as `effort` says."""

    def search(queries: Floats) -> Rows:
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)
        return refined(segment, index, queries, K, parameters(segment.kind, effort, selector))

    return search


def post_filter(segment: SegmentVectors, index: Any, allowed: Mask, effort: float) -> Search:
    """FAISS asked for more than k, what is not allowed dropped afterwards."""
    fetch = min(round(K / allowed.mean() * 1.5), segment.count)

    def search(queries: Floats) -> Rows:
        found = refined(segment, index, queries, fetch, parameters(segment.kind, effort, None))
        kept = np.full((len(queries), K), -1)
        for line, rows in enumerate(found):
            good = rows[(rows >= 0) & allowed[rows]][:K]
            kept[line, : len(good)] = good
        return kept

    return search


def tune(make: Callable[[float], Search], data: Data, truth: Rows) -> Search | None:
    """The search with the least effort whose recall is 0.95 or better; None if there is none."""
    for effort in (0.25, 0.5, 1, 2, 4, 8, 16, 32):
        search = make(effort)
        if recall(search, data, truth) >= RECALL:
            return search
    return None


def raw_search(segment: SegmentVectors, index: Any) -> Search:
    """The index as FAISS searches it with our effort, scoring again what we score again."""
    chosen = parameters(segment.kind, 1, None)
    return lambda queries: refined(segment, index, queries, K, chosen)


REFINE: Mapping[str, int] = {"ivf_sq8": 2, "ivf_rabitq": 8, "hnsw_sq8": 2}


def refined(segment: SegmentVectors, index: Any, queries: Floats, k: int, chosen: Any) -> Rows:
    """A plain FAISS search, its candidates scored again in NumPy where codes are compressed."""
    refine = REFINE.get(segment.kind, 1)
    rows = index.search(queries, min(k * refine, segment.count), params=chosen)[1]
    if refine == 1:
        return rows
    products = np.einsum("qd,qcd->qc", queries, segment.originals[rows])
    products[rows < 0] = -np.inf
    return np.take_along_axis(rows, np.argsort(-products, axis=1)[:, :k], axis=1)


def parameters(kind: KindName, effort: float, selector: Any) -> Any:
    """FAISS's search parameters for our default effort times `effort`."""
    from vector_index.kinds import hnsw, ivf

    if kind.startswith("ivf"):
        return faiss.SearchParametersIVF(sel=selector, nprobe=max(1, round(ivf._PROBES * effort)))
    if kind.startswith("hnsw"):
        width = max(K, round(hnsw._EF_SEARCH * effort))
        return faiss.SearchParametersHNSW(sel=selector, efSearch=width)
    return faiss.SearchParameters(sel=selector)


def true_rows(data: Data, good: Mask) -> Rows:
    """The exact answer over the good rows, (256, at most 10)."""
    k = min(K, np.count_nonzero(good))
    rows = np.flatnonzero(good)
    lines = (line[rows] for line in data.products)
    return np.array([rows[np.argpartition(-line, k - 1)[:k]] for line in lines])


def recall(search: Search, data: Data, truth: Rows) -> float:
    """recall@10, asked one query at a time."""
    found = np.concatenate([search(query[np.newaxis]) for query in data.queries])
    pairs = zip(found.tolist(), truth.tolist(), strict=True)
    return statistics.fmean(len(set(a) & set(b)) / len(b) for a, b in pairs)


def batches(data: Data, rivals: Mapping[str, Search]) -> None:
    """Prints milliseconds a query of each rival, one query at a time and 64 at once."""
    for size in (1, 64):
        times = rounds(data, rivals, size)
        ours = times["ours"]
        line = [f"    batch {size:2}:"]
        for name, values in times.items():
            line.append(f"{name} {middle(values, '.3f')}")
            if name != "ours":
                ratios = [other / own for other, own in zip(values, ours, strict=True)]
                line.append(f"= {middle(ratios, '.2f')} x its QPS;")
        print(" ".join(line), flush=True)


def rounds(data: Data, rivals: Mapping[str, Search], size: int) -> dict[str, list[float]]:
    """Milliseconds a query, by rival and round; the rivals take turns within a round."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(ROUNDS + 1):
        for name, search in rivals.items():
            spent = one_round(search, data.queries, size)
            if number:  # the first one warms up
                times[name].append(spent)
    return times


def one_round(search: Search, queries: Floats, size: int) -> float:
    """Milliseconds a query, over all queries or half a second, whichever ends first."""
    started, ran, asked = time.perf_counter(), time.thread_time(), 0
    for start in range(0, len(queries), size):
        search(queries[start : start + size])
        asked += size
        if time.perf_counter() - started > 0.5:
            break
    return (time.thread_time() - ran) * 1e3 / asked


def middle(values: list[float], form: str) -> str:
    """The median, and the lowest and highest."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}-{max(values):{form}}]"


if __name__ == "__main__":
    main()
