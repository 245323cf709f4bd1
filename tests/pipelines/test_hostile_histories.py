"""Whatever was done to the table: an index equal to it after one sync, or a refusal by name."""

import json
import os
import re
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake
from worlds import FEED, SCHEMA, World, rows

from pipelines.errors import BadKeys, SchemaMismatch, SourceUnreadable, TableNotSupported


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.sync()
    world.embedder.texts.clear()
    return world


def feed(world, value):
    world.delta.alter.set_table_properties({FEED: value})


def feed_off_and_on(world):
    feed(world, "false")
    world.upsert(rows(["3", "unseen"], body="unseen"))
    world.delta.delete("id = '4'")
    feed(world, "true")
    world.upsert(rows(["5"], body="seen"))


def vacuumed(world):
    world.upsert(rows(["3", "x"], body="changed"))
    world.delta.delete("id = '4'")
    world.overwrite(rows(["3", "7"], body="last"))
    world.delta.vacuum(0, dry_run=False, enforce_retention_duration=False)


def feed_files_gone(world):
    world.upsert(rows(["3", "x"], body="changed"))
    shutil.rmtree(world.table / "_change_data")


def log_cleaned(world):
    for number in range(4):
        world.upsert(rows([str(number), f"x{number}"], body="changed"))
    world.delta.create_checkpoint()
    for version in range(3):
        world.commit_file(version).unlink()


def log_cleaned_after_the_indexed_version(world):
    for number in range(4):
        world.upsert(rows([str(number), f"x{number}"], body="changed"))
    world.delta.create_checkpoint()
    world.commit_file(2).unlink()


def restored(world):
    world.upsert(rows(["3", "x"], body="changed"))
    world.sync()
    world.delta.delete("id = '4'")
    world.delta.restore(0)


def recreated(world):
    world.drop()
    world.create(rows(["1", "x", "y"], body="of another table"))


def recreated_with_as_many_commits(world):
    world.append(rows(["z"]))
    world.sync()
    world.drop()
    world.create(rows(["1", "x", "y"], body="of another table"))
    world.append(rows(["w"]))


def recreated_with_more_commits(world):
    world.drop()
    world.create(rows(["1", "x", "y"], body="of another table"))
    world.append(rows(["w"]))
    world.append(rows(["v"]))


def gone_back_to_a_copy(world):
    copy = world.folder / "copy"
    shutil.copytree(world.table, copy)
    world.upsert(rows(["3", "x"], body="changed"))
    world.sync()
    world.drop()
    copy.rename(world.table)


def gone_back_and_written_on(world):
    gone_back_to_a_copy(world)
    world.upsert(rows(["5"], body="after the copy"))
    world.upsert(rows(["6"], body="after the copy"))


def column_added(world):
    more = rows(["x"]).append_column("extra", pa.array([1]))
    world.append(more, schema_mode="merge")


def unmapped_column_added_and_dropped(world):
    column_added(world)
    world.overwrite(rows(["x", "1"]), schema_mode="overwrite")


def column_retyped(world):
    wide = rows(["x", "1"]).cast(SCHEMA.set(4, pa.field("views", pa.int64())))
    world.overwrite(wide, schema_mode="overwrite")


def column_widened(world):
    table = rows([str(n) for n in range(20)])
    wide = table.cast(SCHEMA.set(4, pa.field("views", pa.int64())))
    world.overwrite(wide, schema_mode="overwrite")


def columns_reordered(world):
    table = rows([str(n) for n in range(20)])
    world.overwrite(table.select(list(reversed(table.column_names))), schema_mode="overwrite")


def silent_commit(world):
    world.upsert(rows(["3"], body="changed"))
    world.write_commit({"txn": {"appId": "a stream", "version": 1}})


def clock_jumps(world):
    world.upsert(rows(["3"], body="changed"))
    for version, moment in ((1, 4_000_000_000_000), (2, 1000)):
        if version == 2:
            world.upsert(rows(["4"], body="changed"))
        lines = [json.loads(line) for line in world.commit_file(version).read_text().splitlines()]
        for line in lines:
            if "commitInfo" in line:
                line["commitInfo"]["timestamp"] = moment
        world.commit_file(version).write_text("\n".join(map(json.dumps, lines)))
        os.utime(world.commit_file(version), (1, 1))


DIFF = {
    feed_off_and_on: "changes schema or properties",
    vacuumed: "the feed of versions 1 to 3 cannot be read",
    feed_files_gone: "the feed of versions 1 to 1 cannot be read",
    log_cleaned: "commit 0 is not, or no longer, the one that is indexed",
    log_cleaned_after_the_indexed_version: "commit 2 is gone from the log",
    restored: "commit 3 is a RESTORE",
    recreated: "the table was recreated",
    recreated_with_as_many_commits: "the table was recreated",
    recreated_with_more_commits: "the table was recreated",
    gone_back_to_a_copy: "the table went back from version 1 to 0",
    gone_back_and_written_on: "commit 1 is not, or no longer, the one that is indexed",
    column_added: "changes schema or properties",
    unmapped_column_added_and_dropped: "changes schema or properties",
    column_retyped: "changes schema or properties",
    silent_commit: "does not say what it did",
}


@pytest.mark.parametrize("history", DIFF, ids=lambda history: history.__name__)
def test_a_doubtful_history_is_settled_by_comparing_all_rows_and_the_reason_given(
    world, history, caplog
):
    history(world)
    report = world.sync()
    assert report.mode == "diff"
    assert re.search(DIFF[history], report.reason)
    assert report.reason in caplog.text
    world.check()
    assert world.sync().is_noop
    world.upsert(rows(["9"], body="after it"))
    assert world.sync().mode == "incremental"
    world.check()


@pytest.mark.parametrize("rewritten", [columns_reordered, column_widened])
def test_rows_that_are_rewritten_as_they_were_are_not_indexed_again(world, rewritten):
    rewritten(world)
    report = world.sync()
    assert (report.changed, report.removed, world.embedder.texts) == (0, 0, [])
    world.check()


def test_clocks_that_jump_are_of_no_importance(world):
    clock_jumps(world)
    report = world.sync()
    assert (report.mode, report.changed) == ("incremental", 2)
    world.check()
    assert world.source.lag(report.version.source).seconds == 0.0


def another_key_column(world):
    table = rows(["x", "y"]).rename_columns(["name", *SCHEMA.names[1:]])
    world.overwrite(table, schema_mode="overwrite")


def key_retyped(world):
    world.overwrite(rows(["1", "2"]).set_column(0, "id", pa.array([1, 2])), schema_mode="overwrite")


def mapped_column_dropped(world):
    world.overwrite(rows(["1", "2"]).drop(["body"]), schema_mode="overwrite")


def duplicate_across_files(world):
    world.append(rows(["3"], body="a second one"))


def null_key(world):
    world.append(rows([None]))


def empty_commit_file(world):
    world.commit_file(1).touch()


def half_a_commit(world):
    world.commit_file(1).write_text('{"commitInfo":{"operation":"WRITE"}}\n{"add":{"pa')


def half_a_data_file(world):
    world.append(rows(["x"]))
    (path,) = json.loads(world.commit_file(1).read_text().splitlines()[-1]).values()
    (world.table / path["path"]).write_bytes(b"PAR1 and no more")


def data_file_gone(world):
    world.append(rows(["x"]))
    (path,) = json.loads(world.commit_file(1).read_text().splitlines()[-1]).values()
    (world.table / path["path"]).unlink()


def protocol(features, **properties):
    def history(world):
        metadata = json.loads(world.commit_file(0).read_text().splitlines()[2])
        assert "metaData" in metadata
        metadata["metaData"]["configuration"] |= properties
        reader, writer = (3, 7) if features else (2, 5)
        form = {"minReaderVersion": reader, "minWriterVersion": writer}
        if features:
            form |= {"readerFeatures": features, "writerFeatures": features}
        info = {"commitInfo": {"operation": "UPGRADE", "timestamp": 1}}
        world.write_commit(info, {"protocol": form}, metadata)

    return history


REFUSED = [
    (another_key_column, SchemaMismatch, "no column 'id'"),
    (key_retyped, SchemaMismatch, "'id' must be a string, it is int64"),
    (mapped_column_dropped, SchemaMismatch, "no column 'body'"),
    (duplicate_across_files, BadKeys, "key '3' stands more than once"),
    (null_key, BadKeys, "null 'id'"),
    (empty_commit_file, SourceUnreadable, "commit 1 of table .* is an empty file"),
    (half_a_commit, SourceUnreadable, "cannot be read"),
    (half_a_data_file, SourceUnreadable, "cannot be read"),
    (data_file_gone, SourceUnreadable, "cannot be read"),
    (protocol(["deletionVectors"]), TableNotSupported, "deletionVectors.*REORG TABLE"),
    (protocol(["columnMapping"], **{"delta.columnMapping.mode": "name"}), TableNotSupported,
     "olumn mapping"),
    (protocol([], **{"delta.columnMapping.mode": "name"}), TableNotSupported, "olumn mapping"),
    (protocol(["somethingNew"]), TableNotSupported, "somethingNew"),
]  # fmt: skip


@pytest.mark.parametrize(("history", "error", "message"), REFUSED)
def test_what_cannot_be_indexed_is_refused_by_name_and_the_old_generation_serves(
    world, history, error, message
):
    before, found = world.index.version(), world.indexed()
    history(world)
    for _ in range(2):
        with pytest.raises(error, match=message):
            world.sync()
    world.index.refresh()
    assert (world.index.version(), world.indexed()) == (before, found)


@pytest.mark.parametrize("bad", [duplicate_across_files, null_key])
def test_once_a_bad_key_is_gone_the_next_sync_is_right(world, bad):
    bad(world)
    with pytest.raises(BadKeys):
        world.sync()
    world.delta.delete("id is null or body like 'a second one%'")
    world.upsert(rows(["8"], body="changed"))
    world.sync()
    world.check()


def test_of_a_duplicate_that_is_deleted_the_survivor_stays(world):
    """A delete on a duplicate key is one row in the feed; whoever trusts it loses the survivor."""
    world.append(rows(["3"], body="a second one"))
    world.delta.delete("body like 'a second one%'")
    assert world.sync().mode == "incremental"
    world.check()


def test_a_partitioned_table_is_followed_too(tmp_path):
    world = World(tmp_path, keys=None)
    write_deltalake(str(world.table), rows(["1", "2", "3"]), partition_by=["kind"],
                    configuration={FEED: "true"})  # fmt: skip
    world.open()
    world.sync()
    world.check()
    world.append(rows(["4"], kind="memo"))
    world.delta.update(updates={"kind": "'memo'"}, predicate="id = '2'")
    report = world.sync()
    assert (report.mode, report.changed) == ("incremental", 2)
    world.check()


def test_rows_are_found_by_key_in_files_of_every_writer(world):
    world.upsert(rows(["17", "x" * 100], body="merged"))
    world.append(rows(["\U0001f600", "é", "~"]))
    world.delta.delete("id = '1'")
    snapshot = world.source.snapshot()
    all_rows = pa.Table.from_batches(list(snapshot.rows(None)))
    for key in all_rows["id"].to_pylist():
        found = pa.Table.from_batches(list(snapshot.rows([key, "not there"])))
        assert found == all_rows.filter(pc.equal(all_rows["id"], key)).combine_chunks()
    assert list(snapshot.rows([])) == list(snapshot.rows(["1", "0.5"])) == []
