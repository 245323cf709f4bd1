"""SQL over real Delta and Parquet tables, run by the real DuckDB."""

import gc
import os
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines.errors import (
    BadKeys,
    BadQuery,
    FileUnreadable,
    SchemaMismatch,
    SourceChanged,
    TableNotFound,
    UntrackableQuery,
)
from pipelines.sources import query
from pipelines.sources.protocol import ColumnMapping
from pipelines.sources.sql import SqlSource

MAPPING = ColumnMapping("id", "title", "body", ("views",))
JOIN = """
    SELECT d.id, d.title, d.body, coalesce(v.views, 0) AS views  -- people read these
    FROM docs d LEFT JOIN views v USING (id)
    WHERE d.status = 'published';
"""


def documents(ids, status="published", body="text"):
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "title": [f"title {i}" for i in ids],
            "body": [f"{body} of {i}" for i in ids],
            "status": [status] * len(ids),
        }
    )


@pytest.fixture
def tables(tmp_path):
    docs, views = tmp_path / "docs", tmp_path / "views.parquet"
    write_deltalake(str(docs), documents(["1", "2", "3"]))
    write_deltalake(str(docs), documents(["4"], status="draft"), mode="append")
    pq.write_table(pa.table({"id": ["1", "3"], "views": [10, 30]}), views)
    return {"docs": str(docs), "views": str(views)}


def source(tables, sql=JOIN, mapping=MAPPING, **options):
    return SqlSource(sql, tables, mapping, **options)


def answer_of(sql_source, keys=None):
    found = [row for batch in sql_source.snapshot().rows(keys) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: row["id"])


def test_a_join_of_delta_and_parquet_is_the_table_and_only_mapped_columns_come(tables):
    assert source(tables).metadata_types() == {"views": "int"}
    assert answer_of(source(tables)) == [
        {"id": i, "title": f"title {i}", "body": f"text of {i}", "views": views}
        for i, views in (("1", 10), ("2", 0), ("3", 30))
    ]
    assert [row["id"] for row in answer_of(source(tables), {"2", "4"})] == ["2"]


def test_the_version_changes_with_any_table_and_with_the_sql_and_else_never(tables):
    watched = source(tables)
    seen = [watched.version()]
    assert watched.version() == seen[0] == source(tables).version()
    write_deltalake(tables["docs"], documents(["5"]), mode="append")
    seen.append(watched.version())
    pq.write_table(pa.table({"id": ["1"], "views": [11]}), tables["views"])
    seen.append(watched.version())
    assert len({version.version for version in seen}) == 3
    assert {version.table_id for version in seen} == {seen[0].table_id}
    other = source(tables, JOIN.replace("published", "draft")).version()
    assert other.table_id != seen[0].table_id
    assert 0 <= other.version < 2**53


def test_only_rows_whose_answer_changed_have_another_hash(tables):
    before = source(tables).snapshot().hashes()
    pq.write_table(pa.table({"id": ["1", "3"], "views": [10, 31]}), tables["views"])
    after = source(tables).snapshot().hashes()
    assert {key for key in before if before[key] != after[key]} == {"3"}


def test_a_snapshot_answers_as_when_it_was_taken_whatever_happens_to_its_tables(tables):
    snapshot = source(tables).snapshot()
    hashes = snapshot.hashes()
    DeltaTable(tables["docs"]).delete("id = '1'")
    os.unlink(tables["views"])
    assert snapshot.hashes() == hashes
    assert [row["views"] for batch in snapshot.rows({"1"}) for row in batch.to_pylist()] == [10]


def test_the_spool_of_an_answer_has_no_name_on_disk_and_ends_with_its_snapshot(tables, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    snapshot = source(tables, scratch=scratch).snapshot()
    assert len(snapshot.hashes()) == 3
    assert list(scratch.iterdir()) == []
    spool = snapshot._spool
    del snapshot
    gc.collect()
    assert spool.closed


def test_lag_is_none_until_a_table_changes(tables):
    watched = source(tables)
    indexed = watched.version()
    assert (watched.lag(indexed).versions, watched.lag(indexed).seconds) == (0, 0.0)
    write_deltalake(tables["docs"], documents(["5"]), mode="append")
    assert watched.lag(indexed).versions is None


def test_an_answer_larger_than_a_batch_comes_in_bounded_batches(tables, tmp_path):
    sql = "SELECT i::VARCHAR id, 't' title, 'b' body, i views FROM range(20000) t(i)"
    batches = list(SqlSource(sql, {}, MAPPING).snapshot().rows(None))
    assert max(batch.num_rows for batch in batches) <= 1024
    assert sum(batch.num_rows for batch in batches) == 20000
    wanted = SqlSource(sql, {}, MAPPING).snapshot().rows({"5", "19999"})
    assert [b.column("id").to_pylist() for b in wanted] == [["5"], ["19999"]]


def test_what_does_not_fit_into_memory_goes_to_scratch_and_is_gone_afterwards(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(query, "_MEMORY", "150MB")
    sql = """SELECT md5(i::VARCHAR) id, 't' title, repeat(md5(i::VARCHAR), 30) body, i views
             FROM range(250000) t(i) ORDER BY body"""
    # 240 MB of text to be put in order.
    batches = SqlSource(sql, {}, MAPPING, scratch=tmp_path).snapshot().rows({"no such key"})
    assert list(batches) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ending",
    [
        "", "ORDER BY id LIMIT 2", "QUALIFY row_number() OVER (PARTITION BY id ORDER BY views) = 1",
    ],
)  # fmt: skip
def test_queries_whose_answer_hangs_on_the_tables_alone_are_taken(tables, ending):
    sql = f"""WITH newest AS (SELECT *, year(DATE '2026-01-01') + 1 AS views FROM docs)
              SELECT DISTINCT id, title, body, age(DATE '2026-01-02', DATE '2026-01-01') a, views
              FROM newest {ending}"""
    assert len(source(tables, sql).snapshot().hashes()) == (2 if "LIMIT" in ending else 4)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT *, now() views FROM docs", r"asks for the time by now\(\)"),
        ("SELECT * FROM docs WHERE DATE '2026-01-01' < current_date", "the time by current_date"),
        ("SELECT * FROM docs WHERE age(DATE '2026-01-01') > INTERVAL 1 DAY", r"by age\(\)"),
        ("WITH x AS (SELECT * FROM docs WHERE random() < 0.5) SELECT * FROM x", r"calls random\("),
        ("SELECT uuid() id, title, body FROM docs", r"calls uuid\(\)"),
        ("SELECT * FROM docs LIMIT 10", "a LIMIT without an ORDER BY"),
        ("SELECT * FROM (SELECT * FROM docs LIMIT 10%) ORDER BY id", "LIMIT without an ORDER BY"),
        ("SELECT * FROM docs USING SAMPLE 10%", "takes a sample"),
        ("SELECT * FROM docs TABLESAMPLE 10%", "takes a sample"),
        ("SELECT DISTINCT ON (title) * FROM docs", "a DISTINCT ON without an ORDER BY"),
        ("SELECT row_number() OVER ()::VARCHAR id FROM docs", r"row_number\(\) without an ORDER"),
    ],
)
def test_queries_whose_answer_hangs_on_more_are_refused_with_the_reason(tables, sql, reason):
    with pytest.raises(UntrackableQuery, match=reason):
        source(tables, sql).version()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC id FROM docs", "syntax error at or near"),
        ("", "one SELECT"),
        ("SELECT nope FROM docs", 'column "nope" not found'),
        ("SELECT * FROM elsewhere", "Table with name elsewhere does not exist"),
        ("SELECT 1; SELECT 2", "is one SELECT, this is not: SELECT 1; SELECT 2"),
        ("DROP TABLE docs", "is one SELECT"),
        ("INSERT INTO docs VALUES (1)", "is one SELECT"),
        ("COPY docs TO 'out.csv'", "is one SELECT"),
        ("ATTACH 'x.db'", "is one SELECT"),
        ("INSTALL httpfs", "is one SELECT"),
        ("SET threads = 8", "is one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM read_text('s3://x/y')", "file system operations are disabled"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM tables", "Table with name tables does not exist"),
        ("SELECT $1 AS id", "(?i)parameter"),
    ],
)
def test_what_is_no_query_over_the_named_tables_is_one_named_line(tables, sql, said):
    with pytest.raises(BadQuery, match=said) as refused:
        source(tables, sql).version()
    assert "\n" not in str(refused.value)


def test_an_error_while_the_query_runs_is_one_named_line_and_nothing_is_left(tables, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sql = "SELECT id, title, body, title::INT AS views FROM docs"
    with pytest.raises(
        BadQuery, match=r"Could not convert string 'title [0-9]' to INT32 .*; the SQL is"
    ):
        source(tables, sql, scratch=scratch).snapshot()
    assert list(scratch.iterdir()) == []


def test_columns_and_keys_are_checked_as_in_any_table(tables):
    with pytest.raises(SchemaMismatch, match="the source's SQL has no column 'views'; it has: id"):
        source(tables, "SELECT id, title, body FROM docs").version()
    with pytest.raises(SchemaMismatch, match="'id' must be a string, it is int32"):
        source(tables, "SELECT 1 id, title, body, 1 views FROM docs").snapshot()
    doubled = "SELECT 'a' id, title, body, 1 views FROM docs"
    with pytest.raises(BadKeys, match="'a' stands more than once in the source's SQL"):
        source(tables, doubled).snapshot().hashes()


def test_missing_and_damaged_tables_are_named(tables, tmp_path):
    with pytest.raises(TableNotFound, match="nowhere"):
        source({**tables, "views": str(tmp_path / "nowhere")}).version()
    with open(tables["views"], "r+b") as file:
        file.truncate(100)
    with pytest.raises(FileUnreadable, match=r"views\.parquet is no complete Parquet file"):
        source(tables).version()


def test_files_that_change_while_the_query_runs_are_named(tables, monkeypatch):
    watched = source(tables)
    watched.version()
    ask = watched._answer

    def answer_and_change(pinned):
        yield from ask(pinned)
        pq.write_table(pa.table({"id": ["1"], "views": [11]}), tables["views"])

    monkeypatch.setattr(watched, "_answer", answer_and_change)
    with pytest.raises(SourceChanged, match=r"files changed at .*views"):
        watched.snapshot()


@pytest.mark.parametrize("partition", [None, ["status"]])
def test_text_is_compared_in_every_file_whoever_wrote_it(tmp_path, partition):
    path = str(tmp_path / "docs")
    write_deltalake(path, documents(["1", "2"]), partition_by=partition)
    (
        DeltaTable(path)
        .merge(documents(["2", "3"], body="merged"), "s.id = t.id",
               source_alias="s", target_alias="t")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )  # fmt: skip
    write_deltalake(path, documents(["4"]), mode="append")
    for where, expected in (
        ("id = '2'", ["2"]),
        ("id IN ('2', '3', '4')", ["2", "3", "4"]),
        ("status = 'published' AND id > '1'", ["2", "3", "4"]),
        ("status <> 'published'", []),
        ("body LIKE 'merged%'", ["2", "3"]),
    ):
        sql = f"SELECT id, title, body, 1 AS views FROM docs WHERE {where}"
        assert [row["id"] for row in answer_of(source({"docs": path}, sql))] == expected


def test_partitions_are_columns_and_files_that_differ_are_refused(tmp_path):
    for year in (2025, 2026):
        part = tmp_path / f"year={year}"
        part.mkdir()
        pq.write_table(documents([str(year)]), part / "p.parquet")
    tables = {"docs": str(tmp_path)}
    sql = "SELECT id, title, body, year AS views FROM docs WHERE year > 2025"
    assert [(row["id"], row["views"]) for row in answer_of(source(tables, sql))] == [("2026", 2026)]
    pq.write_table(documents(["x"]).drop_columns(["status"]), tmp_path / "year=2026/q.parquet")
    with pytest.raises(SchemaMismatch, match=r"q\.parquet has other columns or types than"):
        source(tables, sql).version()


def test_no_extension_is_ever_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for sql in ("SELECT * FROM delta_scan('x')", "SELECT * FROM read_xlsx('x')"):
        with pytest.raises(BadQuery, match=r"does not exist|not in the catalog|disabled"):
            SqlSource(sql, {}, MAPPING).version()
    assert not (tmp_path / ".duckdb").exists()


def test_checking_a_query_leaves_no_folder_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    query.check_query("SELECT 1")
    assert list(tmp_path.iterdir()) == []
