"""Real Parquet files on disk: listed, pinned, compared; every doubt is a named error."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import (
    BadKeys,
    FileUnreadable,
    SchemaMismatch,
    SourceChanged,
    SourceUnreadable,
    TableNotFound,
)
from pipelines.sources.parquet import ParquetSource
from pipelines.sources.protocol import ColumnMapping

MAPPING = ColumnMapping("id", "title", "body", ("kind",))


def rows(ids, body="original", **columns):
    count = len(ids)
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "title": [f"title {i}" for i in ids],
            "body": [f"{body} {i}" for i in ids],
            "kind": ["note"] * count,
            **columns,
        }
    )


def source(path, **changed):
    return ParquetSource(str(path), ColumnMapping("id", "title", "body", ("kind",), **changed))


def held(table_source, keys=None):
    return [row for batch in table_source.snapshot().rows(keys) for row in batch.to_pylist()]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "table"
    path.mkdir()
    pq.write_table(rows(["1", "2"]), path / "a.parquet")
    pq.write_table(rows(["3"]), path / "b.parquet")
    return path


def test_a_folder_reads_as_all_its_files_and_a_file_as_itself(folder):
    assert [row["id"] for row in held(source(folder))] == ["1", "2", "3"]
    assert held(source(folder / "b.parquet")) == [
        {"id": "3", "title": "title 3", "body": "original 3", "kind": "note"}
    ]
    assert source(folder).metadata_types() == {"kind": "string"}


def test_only_rows_of_the_wanted_keys_come_and_only_their_row_groups_are_read(tmp_path):
    pq.write_table(rows([str(n) for n in range(100)]), tmp_path / "t.parquet", row_group_size=10)
    found = held(source(tmp_path), {"7", "93", "no such key"})
    assert [row["id"] for row in found] == ["7", "93"]


def test_batches_are_bounded_however_large_the_row_group(tmp_path):
    pq.write_table(rows([str(n) for n in range(5000)]), tmp_path / "t.parquet")
    batches = list(source(tmp_path).snapshot().rows(None))
    assert max(batch.num_rows for batch in batches) <= 1024
    assert sum(batch.num_rows for batch in batches) == 5000


def test_the_version_is_the_same_until_a_file_changes_and_back_again_with_the_files(folder):
    watched = source(folder)
    first = watched.version()
    assert watched.version() == first == source(folder).version()
    pq.write_table(rows(["4"]), folder / "c.parquet")
    second = watched.version()
    assert second.version != first.version
    assert second.table_id == first.table_id
    (folder / "c.parquet").unlink()
    assert watched.version() == first


def test_the_version_is_a_number_that_json_carries_exactly(folder):
    version = source(folder).version().version
    assert 0 <= version < 2**53
    assert int(float(version)) == version


def test_a_rewrite_of_the_same_size_at_once_in_place_with_its_times_set_back_is_seen(folder):
    watched, path = source(folder), folder / "b.parquet"
    versions = set()
    for n in range(20):
        times = path.stat()
        replacement = pa.BufferOutputStream()
        pq.write_table(rows(["3"], body=f"version{n:02}"), replacement, compression="none")
        with path.open("wb") as file:
            file.write(replacement.getvalue())
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        versions.add(watched.version().version)
    assert len(versions) == 20


def test_equal_rows_have_equal_hashes_wherever_they_stand_and_other_rows_others(folder, tmp_path):
    one = source(folder).snapshot().hashes()
    pq.write_table(rows(["3", "2", "1"]), tmp_path / "other.parquet")
    assert source(tmp_path / "other.parquet").snapshot().hashes() == one
    pq.write_table(rows(["3"], body="changed"), folder / "b.parquet")
    changed = source(folder).snapshot().hashes()
    assert {key for key in one if one[key] != changed[key]} == {"3"}


def test_another_mapping_of_the_same_files_is_another_version(folder):
    html = source(folder, text_format="html").version()
    assert html.schema_fingerprint != source(folder).version().schema_fingerprint


def test_lag_counts_no_versions_and_is_none_at_all_for_what_is_indexed(folder):
    watched = source(folder)
    indexed = watched.version()
    assert (watched.lag(indexed).versions, watched.lag(indexed).seconds) == (0, 0.0)
    path = folder / "c.parquet"
    pq.write_table(rows(["4"]), path)
    os.utime(path, (0, path.stat().st_mtime - 60))
    os.utime(folder / "a.parquet", (0, path.stat().st_mtime))
    os.utime(folder / "b.parquet", (0, path.stat().st_mtime))
    lag = watched.lag(indexed)
    assert lag.versions is None
    assert 60 <= lag.seconds < 90


def test_partitions_are_columns_numbers_where_all_values_are_and_null_where_hive_says_so(tmp_path):
    values = (("2025", "a%2Fb", "1"), ("2026", "__HIVE_DEFAULT_PARTITION__", "2"))
    for year, kind, key in values:
        part = tmp_path / f"year={year}" / f"kind={kind}"
        part.mkdir(parents=True)
        pq.write_table(rows([key]).drop_columns(["kind"]), part / "part.parquet")
    table = ParquetSource(str(tmp_path), ColumnMapping("id", "title", "body", ("kind", "year")))
    assert table.metadata_types() == {"kind": "string", "year": "int"}
    assert [(row["id"], row["year"], row["kind"]) for row in held(table)] == [
        ("1", 2025, "a/b"), ("2", 2026, None),
    ]  # fmt: skip
    assert [row["id"] for row in held(table, {"2"})] == ["2"]


@pytest.mark.parametrize(
    ("tenants", "metadata", "expected"),
    [(("1", "2"), (), ["1", "2"]), (("007", "8"), ("tenant",), ["007", "8"])],
)
def test_a_partition_that_must_be_text_or_would_lose_its_zeros_stays_text(
    tmp_path, tenants, metadata, expected
):
    for number, tenant in enumerate(tenants):
        part = tmp_path / f"tenant={tenant}"
        part.mkdir()
        pq.write_table(rows([str(number)]), part / "part.parquet")
    mapping = ColumnMapping("id", "title", "body", metadata, tenant=None if metadata else "tenant")
    assert [row["tenant"] for row in held(ParquetSource(str(tmp_path), mapping))] == expected


def test_a_column_both_in_the_file_and_in_its_folder_is_refused(tmp_path):
    (tmp_path / "kind=memo").mkdir()
    pq.write_table(rows(["1"]), tmp_path / "kind=memo" / "p.parquet")
    with pytest.raises(SchemaMismatch, match=r"'kind' stands both in kind=memo/p.parquet"):
        source(tmp_path).version()


def test_files_that_are_not_partitioned_alike_are_refused(folder):
    (folder / "day=1").mkdir()
    pq.write_table(rows(["9"]), folder / "day=1" / "p.parquet")
    with pytest.raises(SchemaMismatch, match=r"day=1/p.parquet is partitioned by \['day'\]"):
        source(folder).version()


def test_hidden_and_half_written_names_are_no_part_of_the_table(folder):
    first = source(folder).version()
    (folder / "_SUCCESS").touch()
    (folder / "c.parquet.tmp").write_bytes(b"PAR1 half")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "d.parquet").write_bytes(b"PAR1 half")
    (folder / ".a.parquet.crc").touch()
    assert source(folder).version() == first


def test_a_folder_that_cannot_be_read_is_an_error_and_not_a_table_without_its_rows(
    tmp_path, monkeypatch
):
    for part in ("open", "shut"):
        (tmp_path / part).mkdir()
        pq.write_table(rows([part]), tmp_path / part / "p.parquet")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(SourceUnreadable, match="shut cannot be read: Permission denied"):
        source(tmp_path).version()


def test_folders_behind_links_are_read_once_and_a_circle_of_them_ends(tmp_path):
    kept, table = tmp_path / "kept", tmp_path / "table"
    kept.mkdir()
    table.mkdir()
    pq.write_table(rows(["1"]), kept / "p.parquet")
    (table / "linked").symlink_to(kept)
    (table / "again").symlink_to(kept)
    (table / "circle").symlink_to(table)
    assert [row["id"] for row in held(source(table))] == ["1"]


def test_a_partition_whose_name_begins_like_a_hidden_one_is_read(tmp_path):
    (tmp_path / "_year=2026").mkdir()
    pq.write_table(rows(["1"]), tmp_path / "_year=2026" / "p.parquet")
    assert [row["id"] for row in held(source(tmp_path))] == ["1"]


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_a_truncated_file_is_named_by_every_call(folder, cut):
    watched, path = source(folder), folder / "b.parquet"
    watched.version()
    path.write_bytes(path.read_bytes()[:cut])
    for call in (watched.version, watched.snapshot, watched.metadata_types):
        with pytest.raises(FileUnreadable, match=r"b\.parquet is no complete Parquet file"):
            call()


def test_a_damaged_page_behind_a_whole_footer_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(rows([str(n) for n in range(1000)]), path)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(FileUnreadable, match=r"t\.parquet is no complete Parquet file"):
        source(tmp_path).snapshot().hashes()


@pytest.mark.parametrize("meanwhile", ["removed", "replaced", "cut off"])
def test_a_file_that_is_another_by_the_time_it_is_read_is_named(folder, meanwhile):
    snapshot, path = source(folder).snapshot(), folder / "b.parquet"
    if meanwhile == "removed":
        path.unlink()
    elif meanwhile == "replaced":
        pq.write_table(rows(["3"], body="newer"), path)
    else:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SourceChanged, match=r"b\.parquet is (gone|another file)"):
        list(snapshot.rows(None))


@pytest.mark.parametrize("change", ["added", "removed"])
def test_hashes_of_files_that_came_or_went_meanwhile_are_refused(folder, change):
    snapshot = source(folder).snapshot()
    rows_of = snapshot.rows

    def rows_and_then(keys):
        yield from rows_of(keys)
        if change == "added":
            pq.write_table(rows(["4"]), folder / "c.parquet")
        else:
            (folder / "a.parquet").unlink()

    snapshot.rows = rows_and_then
    with pytest.raises(SourceChanged, match="were added or removed"):
        snapshot.hashes()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (rows(["9"]).drop_columns(["body"]), r"c\.parquet has no column 'body'"),
        (rows(["9"]).set_column(3, "kind", pa.array([1])), r"'kind' is int64, in a\.parquet"),
        (rows(["9"]).set_column(0, "id", pa.array([1])), "'id' must be a string, it is int64"),
    ],
)
def test_a_file_with_another_schema_is_named(folder, second, message):
    pq.write_table(second, folder / "c.parquet")
    with pytest.raises(SchemaMismatch, match=message):
        source(folder).snapshot()


def test_types_that_hold_the_same_are_read_as_one(folder):
    wide = rows(["9"]).cast(
        pa.schema([(name, pa.large_string()) for name in ("id", "title", "body", "kind")])
    )
    pq.write_table(wide, folder / "c.parquet")
    batches = list(source(folder).snapshot().rows(None))
    assert {str(batch.schema.field("body").type) for batch in batches} == {"string"}
    narrow = [pa.array([1], kind) for kind in (pa.int32(), pa.int64())]
    for number, column in enumerate(narrow):
        pq.write_table(rows([f"n{number}"], n=column), folder / f"{'ab'[number]}.parquet")
    (folder / "c.parquet").unlink()
    hashes = ParquetSource(str(folder), ColumnMapping("id", "title", "body", ("n",))).snapshot()
    assert {str(batch.schema.field("n").type) for batch in hashes.rows(None)} == {"int64"}


@pytest.mark.parametrize(
    ("ids", "message"), [(["3", "3"], "'3' stands more than once"), (["9", None], "null 'id'")]
)
def test_bad_keys_are_refused_in_one_file_or_across_files(folder, ids, message):
    pq.write_table(rows(ids), folder / "c.parquet")
    with pytest.raises(BadKeys, match=message):
        source(folder).snapshot().hashes()


def test_a_missing_folder_and_one_without_parquet_are_named(tmp_path):
    with pytest.raises(TableNotFound, match=r"no file or folder at .*nowhere"):
        source(tmp_path / "nowhere").version()
    (tmp_path / "notes.csv").touch()
    with pytest.raises(TableNotFound, match=r"no .parquet files at .*; 1 files have other names"):
        source(tmp_path).version()


def test_vectors_are_read_as_they_are_and_belong_to_the_hash(tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    table = rows(["1", "2", "3"], v=pa.FixedSizeListArray.from_arrays(vectors.ravel(), 3))
    pq.write_table(table, tmp_path / "t.parquet")
    with_vectors = source(tmp_path, vector="v").snapshot()
    (batch,) = with_vectors.rows(None)
    assert batch.column("v").to_pylist() == vectors.tolist()
    before = with_vectors.hashes()
    changed = table.set_column(
        4, "v", pa.FixedSizeListArray.from_arrays((vectors * [[1], [1], [2]]).ravel(), 3)
    )
    pq.write_table(changed, tmp_path / "t.parquet")
    after = source(tmp_path, vector="v").snapshot().hashes()
    assert {key for key in before if before[key] != after[key]} == {"3"}


def test_a_relative_path_and_the_resolved_one_are_the_same_table(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert source(Path("table")).version() == source(folder).version()
