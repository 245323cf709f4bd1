"""Us beside hnswlib, usearch, lancedb, milvus-lite, chroma and local qdrant at recall@10 0.95.

Every contender is tuned alike: the least effort whose recall@10 on the first 500 queries is 0.95
or more, a step up where the other 500 then have less; where two knobs give several such efforts,
the fastest of them. Recall and queries a second are then measured on the other 500 queries, one at
a time and 64 at once, in rounds in which the contenders take turns. Medians, and in brackets the
lowest and highest round. `shipped:` are ours as a user gets them, without tuning; `index:` is a
published LocalIndex's public search.

One thread: every contender runs in a process of its own that may use one core only, the same for
all, with the thread pools we know of set to one. hnswlib and usearch are told so themselves;
lancedb's and chroma's runtimes keep several threads, which then share that core. The client's own
overhead counts, for them and for us. Builds use every core and are kept in the cache.

    pip install -e '.[rivals]'  (in an environment of its own; hnswlib is compiled there)
    python benchmarks/rivals.py --cache DIR [--rows 100000] [--source passages] [--only ours,hnsw]
"""

import argparse
import os
import shutil
import statistics
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from contenders import Contender, Effort, our_contenders
from corpora import QUERIES, Corpus, load_corpus
from rival_contenders import rival_contenders

RECALL = 0.95
GOAL, STRETCH = 1.0, 1.5
BATCHES = (1, 64)
TUNING, MEASURED = slice(0, QUERIES // 2), slice(QUERIES // 2, QUERIES)
ROUND_S = 1.0
OURS = ("ours:", "shipped:", "index:")
DATABASES = ("lancedb", "milvus-lite", "chroma", "qdrant")
_THREADS = ("OMP", "OPENBLAS", "MKL", "RAYON")
PATIENCE_S = 1800.0


@dataclass(slots=True)
class Figures:
    """What was measured of one contender. qps: by batch size, a value a round."""

    note: str
    built_s: float
    effort: Effort
    recall: float
    qps: dict[int, list[float]] = field(default_factory=lambda: {size: [] for size in BATCHES})


def main() -> None:
    """Builds, tunes and measures the contenders, then prints what is claimed."""
    options = _parse()
    corpus = load_corpus(options.cache, options.source, options.rows, options.dim)
    names = [name for name in (*our_contenders(), *rival_contenders()) if _is_wanted(name, options)]
    built = {name: _built(name, corpus) for name in names}
    if options.build_only:
        return
    _hold_to_one_core()
    context = get_context("spawn")
    workers: dict[str, Connection] = {}
    figures: dict[str, Figures] = {}
    for name in [name for name in names if built[name] is not None]:
        here, there = context.Pipe()
        context.Process(target=_serve, args=(there, name, corpus.folder), daemon=True).start()
        there.close()  # or a dead process would never read as an end of file
        answer = _told(here, "tune")
        if isinstance(answer, str):
            print(f"{name}: left out: {answer}", flush=True)
            continue
        figures[name], workers[name] = Figures(answer[0], built[name] or 0.0, *answer[1:]), here
        print(f"{name}: effort {answer[1]}, recall {answer[2]:.3f}", file=sys.stderr, flush=True)
    _measure(workers, figures, options.rounds)
    _print_table(corpus, figures, options)
    _print_claims(figures)


def _measure(workers: dict[str, Connection], figures: dict[str, Figures], rounds: int) -> None:
    """Fills in the figures; whoever fails on the way is left out of all of them."""
    for number in range(rounds + 1):
        for size in BATCHES:
            for name in list(workers):
                answer = _told(workers[name], size)
                if isinstance(answer, str):
                    print(f"{name}: left out at batch {size}: {answer}", flush=True)
                    del workers[name], figures[name]
                elif number:  # the first one warms up
                    figures[name].qps[size].append(answer)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for data and indexes")
    parser.add_argument("--source", choices=("clustered", "passages"), default="clustered")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384, help="of clustered")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="beginnings of contenders' names, comma-separated")
    parser.add_argument("--build-only", action="store_true", help="fill the cache, measure later")
    return parser.parse_args()


def _is_wanted(name: str, options: argparse.Namespace) -> bool:
    return options.only is None or name.startswith(tuple(options.only.split(",")))


def _contender(name: str) -> Contender:
    return {**our_contenders(), **rival_contenders()}[name]()


def _built(name: str, corpus: Corpus) -> float | None:
    """Seconds the build took, now or when the cache was filled; None where it failed."""
    done = corpus.folder / f"{_contender(name).folder}.seconds"
    if not done.exists():
        print(f"building {name}", file=sys.stderr, flush=True)
        process = get_context("spawn").Process(target=_build, args=(name, corpus.folder))
        process.start()
        process.join()
        if process.exitcode != 0:
            print(f"{name}: left out: its build ended with {process.exitcode}", flush=True)
            return None
    return float(done.read_text())


def _build(name: str, home: Path) -> None:
    import numpy as np

    contender = _contender(name)
    vectors = np.load(home / "vectors.npy")
    folder = home / contender.folder
    shutil.rmtree(folder, ignore_errors=True)  # a build that was cut off
    folder.mkdir()
    started = time.perf_counter()
    contender.build(vectors, folder)
    (home / f"{contender.folder}.seconds").write_text(f"{time.perf_counter() - started:.1f}")


def _hold_to_one_core() -> None:
    """For this process's children, before they read how many threads there are."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ |= {f"{name}_NUM_THREADS": "1" for name in _THREADS}


def _told(worker: Connection, command: str | int) -> Any:
    """The worker's answer, or a text that says why there is none."""
    try:
        worker.send(command)
        return worker.recv() if worker.poll(PATIENCE_S) else f"silent for {PATIENCE_S:.0f} s"
    except (EOFError, OSError) as exc:
        return f"its process ended: {type(exc).__name__}"


def _serve(pipe: Connection, name: str, home: Path) -> None:
    """One contender's process: answers `tune`, then a batch size with queries a second."""
    try:
        import numpy as np

        contender = _contender(name)
        vectors = np.asarray(np.load(home / "vectors.npy", mmap_mode="r"))
        corpus = Corpus(home, vectors, np.load(home / "queries.npy"), np.load(home / "truth.npy"))
        contender.open(home / contender.folder, corpus.vectors)
        pipe.recv()
        pipe.send(_tuned(contender, corpus))
        while True:
            pipe.send(_queries_a_second(contender, corpus, MEASURED, pipe.recv()))
    except (EOFError, BrokenPipeError):
        return
    except Exception as exc:  # noqa: BLE001  # whatever a rival raises must not end the others
        traceback.print_exc()
        pipe.send(f"{type(exc).__name__}: {exc}")


def _tuned(contender: Contender, corpus: Corpus) -> tuple[str, Effort, float] | str:
    """The note, the effort chosen and the recall on the other half; or why there is none."""
    chosen: list[tuple[float, Effort]] = []
    best = 0.0
    for family in contender.families:
        low, high = 0, len(family) - 1
        while low < high:
            middle = (low + high) // 2
            if _recall(contender, corpus, TUNING, family[middle]) >= RECALL:
                high = middle
            else:
                low = middle + 1
        reached = _recall(contender, corpus, TUNING, family[low])
        best = max(best, reached)
        if reached >= RECALL:
            while low + 1 < len(family) and not _holds(contender, corpus, family[low]):
                low += 1
            contender.set_effort(family[low])
            chosen.append((_queries_a_second(contender, corpus, TUNING, 1), family[low]))
    if not chosen:
        return f"recall@10 reaches {best:.3f} at most"
    effort = max(chosen)[1]
    return contender.note, effort, _recall(contender, corpus, MEASURED, effort, size=1)


def _holds(contender: Contender, corpus: Corpus, effort: Effort) -> bool:
    """Whether the other half's recall is good enough too, or the claim would not be."""
    return _recall(contender, corpus, MEASURED, effort) >= RECALL


def _recall(
    contender: Contender, corpus: Corpus, which: slice, effort: Effort, *, size: int = 50
) -> float:
    import numpy as np

    contender.set_effort(effort)
    queries = corpus.queries[which]
    blocks = [queries[start : start + size] for start in range(0, len(queries), size)]
    found = [contender.rows(contender.ask(block)) for block in blocks]
    return corpus.recall(np.concatenate(found), which)


def _queries_a_second(contender: Contender, corpus: Corpus, which: slice, size: int) -> float:
    """Over all these queries or ROUND_S seconds, whichever ends first."""
    queries = corpus.queries[which]
    started, asked = time.perf_counter(), 0
    for start in range(0, len(queries) - size + 1, size):
        contender.ask(queries[start : start + size])
        asked += size
        if time.perf_counter() - started > ROUND_S:
            break
    return asked / (time.perf_counter() - started)


def _print_table(
    corpus: Corpus, figures: Mapping[str, Figures], options: argparse.Namespace
) -> None:
    shape = " x ".join(f"{size:,}" for size in corpus.vectors.shape)
    print(f"\n{options.source}, {shape}, {options.rounds} rounds, one core; queries a second")
    print(f"{'':18} {'build s':>8} {'effort':>10} recall  {'one at a time':26} 64 at once")
    for name, one in sorted(figures.items(), key=lambda item: -_median(item[1], 1)):
        effort = ",".join(map(str, one.effort)) or "-"
        speeds = "  ".join(f"{_middle(one.qps[size]):26}" for size in BATCHES)
        print(f"{name:18} {one.built_s:8.1f} {effort:>10} {one.recall:6.3f}  {speeds} {one.note}")


def _print_claims(figures: Mapping[str, Figures]) -> None:
    """Ours against the best rival, round by round; and the public search against databases."""
    rivals = [name for name in figures if not name.startswith(OURS)]
    print()
    for prefix, against in (
        ("ours:", rivals),
        ("shipped:", rivals),
        ("index:", [name for name in rivals if name.startswith(DATABASES)]),
        ("index:", rivals),
    ):
        ours = [name for name in figures if name.startswith(prefix)]
        if not ours or not against:
            continue
        for size in BATCHES:
            own = max(ours, key=lambda name: _median(figures[name], size))
            rival = max(against, key=lambda name: _median(figures[name], size))
            pairs = zip(figures[own].qps[size], figures[rival].qps[size], strict=True)
            ratios = [mine / other for mine, other in pairs]
            print(
                f"batch {size:2}: {own} (recall {figures[own].recall:.3f}) is "
                f"{_middle(ratios, '.2f')} x {rival} ({figures[rival].recall:.3f}); "
                f"goal {GOAL} {_verdict(ratios, GOAL)}, "
                f"stretch {STRETCH} {_verdict(ratios, STRETCH)}"
            )


def _verdict(ratios: list[float], goal: float) -> str:
    return "met" if statistics.median(ratios) >= goal else "MISSED"


def _median(one: Figures, size: int) -> float:
    return statistics.median(one.qps[size])


def _middle(values: list[float], form: str = ",.0f") -> str:
    return f"{statistics.median(values):{form}} [{min(values):{form}}-{max(values):{form}}]"


if __name__ == "__main__":
    main()
