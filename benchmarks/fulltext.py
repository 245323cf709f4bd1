"""Our full text beside bm25s, which only rebuilds, on the text of the demo's documents.

bm25s gets our terms and Lucene's variant of BM25, so scores must agree but for the constant K1 + 1:
the oracle. The ten best still differ, since equal scores fall in another order and tantivy keeps
lengths in 8 bits. Its rates are the rival's: building from nothing, searching, and taking in a
change of ten documents, for which it has to be built again. Five rounds, interleaved; prints
median and spread (lowest to highest round).
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa

from pipelines.demo_table import DEMO_TENANT, EVERYONE, MAINTAINERS, demo_rows
from vector_index.fulltext import (
    MemoryText,
    TantivyText,
    extend_fulltext,
    open_fulltext,
)
from vector_index.fulltext.protocol import K1, B
from vector_index.fulltext.tokens import query_terms, tokens
from vector_index.passages import Access, Passage, passages_to_table

ROUNDS = 5
QUERIES = 200
CHANGED = 10
K = 10
ASKER = Access(DEMO_TENANT, frozenset({EVERYONE, MAINTAINERS}))


def main() -> None:
    """Prints the overlap, then the rates."""
    passages = read_documents()
    table = passages_to_table(passages, {})
    step = len(passages) // QUERIES
    queries = [opening(passage) for passage in passages[::step]][:QUERIES]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        extend_fulltext(home / "first", parent=None, passages=table, gone=())
        ours = open_fulltext(home / "first", has_tenant=True, has_groups=True)
        rival = build_rival(passages)
        print(f"{len(passages)} documents, {QUERIES} queries of 12 words, top {K}")
        print_overlap("on disk", passages, ours, rival, queries)
        memory = build_memory(passages)
        print_overlap("in memory", passages, memory, rival, queries)
        print(f"largest difference of a score  {largest_difference(memory, rival, queries):.1e}")
        print_rates(home, passages, table, queries)


def read_documents() -> list[Passage]:
    """The demo's documents, whole, with no title, since bm25s knows one field."""
    return [
        Passage(
            str(row["id"]), 0, "", str(row["body"]), 0, len(str(row["body"])), "", DEMO_TENANT,
            tuple(row["allowed_groups"]),  # type: ignore[call-overload]
        )
        for row in demo_rows()
    ]  # fmt: skip


def opening(passage: Passage) -> str:
    """A query that many documents answer a little: twelve words of a text."""
    return " ".join(passage.text.split()[3:15])


def build_rival(passages: list[Passage]) -> bm25s.BM25:
    """bm25s over the same terms."""
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index([tokens(passage.text) for passage in passages], show_progress=False)
    return index


def search_ours(text: TantivyText | MemoryText, query: str) -> list[str]:
    """Ids of our K best."""
    hits = text.search(query, K, access=ASKER, is_allowed=lambda *_: True)
    return [hit.document_id for hit in hits]


def search_rival(rival: bm25s.BM25, query: str) -> list[int]:
    """Row numbers of the rival's K best. It fills up with rows that match nothing."""
    terms = [term for term in query_terms(query) if term in rival.vocab_dict]
    if not terms:
        return []
    rows, scores = rival.retrieve([terms], k=K, show_progress=False)
    return [int(row) for row, score in zip(rows[0], scores[0], strict=True) if score > 0]


def print_overlap(
    name: str,
    passages: list[Passage],
    ours: TantivyText | MemoryText,
    rival: bm25s.BM25,
    queries: list[str],
) -> None:
    """How much of the rival's top K is in ours, and how often the first hit is the same."""
    shares, same_first = [], []
    for query in queries:
        found = search_ours(ours, query)
        expected = [passages[row].document_id for row in search_rival(rival, query)]
        if expected:
            shares.append(len(set(found) & set(expected)) / len(expected))
            same_first.append(found[0] == expected[0])
    print(
        f"overlap with bm25s, {name:9} mean {np.mean(shares):.3f}, lowest {min(shares):.1f}; "
        f"same first hit {np.mean(same_first):.3f} ({len(shares)} queries with hits)"
    )


def largest_difference(ours: MemoryText, rival: bm25s.BM25, queries: list[str]) -> float:
    """The largest relative difference of a score at the same rank, in any query's K best."""
    worst = 0.0
    for query in queries:
        hits = ours.search(query, K, access=ASKER, is_allowed=lambda *_: True)
        terms = [term for term in query_terms(query) if term in rival.vocab_dict]
        scores = rival.retrieve([terms], k=K, show_progress=False)[1][0] * (K1 + 1)
        pairs = zip((hit.score for hit in hits), scores, strict=False)
        worst = max(worst, *(abs(mine / float(other) - 1) for mine, other in pairs))
    return worst


def print_rates(home: Path, passages: list[Passage], table: pa.Table, queries: list[str]) -> None:
    """Building, changing and searching, ours and the rival's turn by turn."""
    state = home / "first"
    ours = open_fulltext(state, has_tenant=True, has_groups=True)
    rival = build_rival(passages)
    memory = build_memory(passages)
    folders = (home / f"round-{number}" for number in range(10**6))
    change = table.slice(0, CHANGED)

    def build() -> None:
        extend_fulltext(next(folders), parent=None, passages=table, gone=())

    def extend() -> None:
        folder = next(folders)
        extend_fulltext(folder, parent=state, passages=change, gone=())
        open_fulltext(folder, has_tenant=True, has_groups=True)

    tasks: dict[str, tuple[int, str, Callable[[], object]]] = {
        "build, ours on disk": (len(passages), "documents/s", build),
        "build, ours in memory": (len(passages), "documents/s", lambda: build_memory(passages)),
        "build, bm25s": (len(passages), "documents/s", lambda: build_rival(passages)),
        f"change {CHANGED}, ours on disk": (1, "commits/s", extend),
        f"change {CHANGED}, bm25s": (1, "commits/s", lambda: build_rival(passages)),
        "search, ours on disk": (
            QUERIES, "queries/s", lambda: [search_ours(ours, query) for query in queries]
        ),
        "search, ours in memory": (
            QUERIES, "queries/s", lambda: [search_ours(memory, query) for query in queries]
        ),
        "search, bm25s": (
            QUERIES, "queries/s", lambda: [search_rival(rival, query) for query in queries]
        ),
    }  # fmt: skip
    rounds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, (amount, _unit, task) in tasks.items():
            started = time.perf_counter()
            task()
            rounds[name].append(amount / (time.perf_counter() - started))
    for name, rates in rounds.items():
        middle = statistics.median(rates)
        unit = tasks[name][1]
        print(f"{name:25} {middle:9,.1f} {unit} ({min(rates):,.1f} to {max(rates):,.1f})")


def build_memory(passages: list[Passage]) -> MemoryText:
    """Our plain Python twin over the same documents."""
    text = MemoryText(has_tenant=True, has_groups=True)
    text.add(passages)
    return text


if __name__ == "__main__":
    main()
