"""Masks over a million rows: ours against the same predicate in Arrow's kernels and in DuckDB.

Filters that keep 50, 10, 1 and 0.1% of the rows, on every kind of column. Each side makes the same
bool array of one byte a row, and the three are compared before anything is timed. Ours and Arrow's
kernels run on one thread; DuckDB on every core, over its own in-memory table. It gives row ids,
which NumPy scatters: selecting the predicate itself is no faster, and an `IN` then loses the rows'
order. Five rounds, the three interleaved, the best of three calls a round; prints median and
spread (lowest to highest round) in milliseconds. What ours pays once per column and segment,
decoding it, is printed apart.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.filters import Filter, parse_filter
from vector_index.masks import AccessColumns, Columns
from vector_index.passages import ARROW_TYPES, Access, MetadataType

ROWS = 1_000_000
ROUNDS = 5
CALLS = 3
START = datetime(2026, 1, 1, tzinfo=UTC)
SHARES = {"50%": 0.5, "10%": 0.1, "1%": 0.01, "0.1%": 0.001}
COLUMNS: dict[str, MetadataType] = {
    "name": "string", "views": "int", "score": "float", "at": "timestamp", "tags": "strings",
}  # fmt: skip

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Question:
    """One predicate said three ways: in our JSON form, on Arrow arrays, as bound DuckDB SQL."""

    title: str
    form: object
    arrow: Callable[[pa.Table], Mask]
    sql: str
    values: list[object]


def main() -> None:
    """Builds the rows, times every question, then what is paid once per segment."""
    table = build_rows(np.random.default_rng(0)).combine_chunks()
    columns = Columns(table.to_struct_array())
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.register("given", table)
    database.execute("CREATE TABLE passages AS SELECT * FROM given")
    print(f"{ROWS:,} rows, {os.cpu_count()} cores, arrow {pa.__version__}, ", end="")
    print(f"duckdb {duckdb.__version__}; milliseconds\n")
    heads = " ".join(f"{side:>24}" for side in ("ours", "arrow", "duckdb"))
    print(f"{'filter':20} {'keeps':>6} {heads}  arrow duckdb (times ours)")
    ratios = [time_question(asked, table, columns, database) for asked in questions()]
    for rival, found in zip(("arrow", "duckdb"), zip(*ratios, strict=True), strict=True):
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"\n{rival} takes {middle:.1f} times as long as ours ({low:.1f} to {high:.1f})")
    time_decoding(table)
    time_access(table)


def build_rows(rng: np.random.Generator) -> pa.Table:
    """A string of 1,000 values, an int, a float, a timestamp and an array of strings.

    One scalar in twenty is null. The tags "50%", "10%" and "1%" are held by that share of the
    rows; nine rows in ten hold one of 1,000 others.
    """
    null = rng.random((4, ROWS)) < 0.05
    names = pa.array([name(number) for number in range(1000)])
    moments = np.datetime64("2026-01-01", "us") + rng.integers(0, ROWS, ROWS) * np.timedelta64(
        1, "s"
    )
    holds = rng.random((ROWS, 4)) < [0.5, 0.1, 0.01, 0.9]
    tags = np.broadcast_to(np.arange(4), (ROWS, 4)).copy()
    tags[:, 3] += rng.integers(0, 1000, ROWS)
    words = pa.array(["50%", "10%", "1%", *(f"other {number}" for number in range(1000))])
    offsets = np.concatenate([[0], np.cumsum(holds.sum(axis=1))]).astype(np.int32)
    return pa.table(
        {
            "name": names.take(pa.array(rng.integers(0, 1000, ROWS), mask=null[0])),
            "views": pa.array(rng.integers(0, 1000, ROWS), mask=null[1]),
            "score": pa.array(rng.random(ROWS), mask=null[2]),
            "at": pa.array(moments, ARROW_TYPES["timestamp"], mask=null[3]),
            "tags": pa.ListArray.from_arrays(pa.array(offsets), words.take(pa.array(tags[holds]))),
        }
    )


def name(number: int) -> str:
    """One of the thousand names."""
    return f"name {number:03} of many"


def questions() -> list[Question]:
    """Every kind of condition at every share it can keep, then `like` and several at once."""
    asked = []
    for title, share in SHARES.items():
        asked.append(below("views", title, int(share * 1000)))
        asked.append(below("score", title, share))
        asked.append(below("at", title, START + timedelta(seconds=share * ROWS)))
        asked.append(holding(title, "other 7" if title == "0.1%" else title))
    asked.append(below("name", "50%", name(500)))
    asked.append(one_of("10%", [name(number) for number in range(100)]))
    asked.append(one_of("1%", [name(number) for number in range(10)]))
    asked.append(equal("0.1%", name(7)))
    return [*asked, like("0.1%"), several("10%")]


def below(column: str, share: str, bound: int | float | str | datetime) -> Question:
    form = bound.isoformat() if isinstance(bound, datetime) else bound
    return Question(
        f"{column} <, {share}", {column: {"lt": form}},
        lambda table: plain(pc.less(table[column], pa.scalar(bound, table[column].type))),
        f'"{column}" < ?', [bound],
    )  # fmt: skip


def equal(share: str, wanted: str) -> Question:
    return Question(
        f"name =, {share}", {"name": wanted},
        lambda table: plain(pc.equal(table["name"], wanted)), "name = ?", [wanted],
    )  # fmt: skip


def one_of(share: str, wanted: list[str]) -> Question:
    return Question(
        f"name in {len(wanted)}, {share}", {"name": wanted},
        lambda table: plain(pc.is_in(table["name"], value_set=pa.array(wanted))),
        f"name IN ({', '.join('?' * len(wanted))})", list(wanted),
    )  # fmt: skip


def holding(share: str, tag: str) -> Question:
    def arrow(table: pa.Table) -> Mask:
        lists = table["tags"].chunk(0)
        found = pc.equal(lists.flatten(), tag)
        mask = np.zeros(len(lists), np.bool_)
        mask[pc.list_parent_indices(lists).filter(found).to_numpy()] = True
        return mask

    return Question(
        f"tags contains, {share}", {"tags": {"contains": tag}}, arrow,
        "list_contains(tags, ?)", [tag],
    )  # fmt: skip


def like(share: str) -> Question:
    pattern = r"(?i)\b007\b"
    return Question(
        f"name like, {share}", {"name": {"like": "007"}},
        lambda table: plain(pc.match_substring_regex(table["name"], pattern)),
        "regexp_matches(name, ?)", [pattern],
    )  # fmt: skip


def several(share: str) -> Question:
    def arrow(table: pa.Table) -> Mask:
        numbers = pc.and_(pc.less(table["views"], 500), pc.less(table["score"], 0.25))
        return plain(pc.and_(numbers, pc.not_equal(table["name"], name(7))))

    form = {"views": {"lt": 500}, "score": {"lt": 0.25}, "name": {"ne": name(7)}}
    sql = "views < ? AND score < ? AND name <> ?"
    return Question(f"three of them, {share}", form, arrow, sql, [500, 0.25, name(7)])


def time_question(
    asked: Question, table: pa.Table, columns: Columns, database: duckdb.DuckDBPyConnection
) -> tuple[float, float]:
    """Prints one line; how many times as long as ours Arrow and DuckDB took."""
    where: Filter = parse_filter(asked.form, COLUMNS)
    sql = f"SELECT rowid AS row FROM passages WHERE {asked.sql}"

    def by_row_ids() -> Mask:
        mask = np.zeros(ROWS, np.bool_)
        mask[database.execute(sql, asked.values).fetchnumpy()["row"]] = True
        return mask

    sides: dict[str, Callable[[], Mask]] = {
        "ours": lambda: columns.mask(where),
        "arrow": lambda: asked.arrow(table),
        "duckdb": by_row_ids,
    }
    masks = [np.asarray(side()) for side in sides.values()]
    assert all(np.array_equal(masks[0], mask) for mask in masks), asked.title
    rounds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, call in sides.items():
            rounds[side].append(best_ms(call))
    ours, arrow, rival = (statistics.median(times) for times in rounds.values())
    shown = " ".join(f"{spread(times):>24}" for times in rounds.values())
    ratios = arrow / ours, rival / ours
    print(f"{asked.title:20} {masks[0].mean():6.2%} {shown} {ratios[0]:6.1f} {ratios[1]:6.1f}")
    return ratios


def time_decoding(table: pa.Table) -> None:
    """What the first filter on a column pays, once per segment."""
    print("\npaid once per segment:")
    first = {
        "name": {"name": "x"}, "name, like": {"name": {"like": "x"}}, "views": {"views": 1},
        "score": {"score": 1}, "at": {"at": START.isoformat()}, "tags": {"tags": {"contains": "x"}},
    }  # fmt: skip
    for title, form in first.items():
        where = parse_filter(form, COLUMNS)
        struct = table.to_struct_array()
        times = [best_ms(lambda: Columns(struct).mask(where), 1) for _ in range(ROUNDS)]  # noqa: B023
        print(f"  {title:22} {spread(times)}")


def time_access(table: pa.Table) -> None:
    """Who may see a row: `name` as the tenant, `tags` as the allowed groups, five groups asked."""
    access = Access(name(7), frozenset(["50%", "10%", "1%", "other 1", "other 2"]))
    decoded = AccessColumns(table["name"], table["tags"], ROWS)
    decoded.mask(access)
    times = [best_ms(lambda: decoded.mask(access)) for _ in range(ROUNDS)]
    print(f"\naccess mask, 5 groups    {spread(times)}")


def plain(found: pa.ChunkedArray) -> Mask:
    return np.asarray(pc.fill_null(found, False).to_numpy())


def best_ms(call: Callable[[], object], calls: int = CALLS) -> float:
    """The quickest of a few calls."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return min(times)


def spread(times: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(times):6.2f} ({min(times):.2f} to {max(times):.2f})"


if __name__ == "__main__":
    main()
