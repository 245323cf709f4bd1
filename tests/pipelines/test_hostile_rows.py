"""Rows and commits of strange content: one row is set aside, a commit is never taken on trust."""

import json

import pyarrow as pa
import pytest
from worlds import World, rows

from pipelines.errors import BadKeys, BadRow
from pipelines.quarantine import Quarantine
from pipelines.setting_aside import SettingAside
from pipelines.sync import sync


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.sync()
    return world


def not_utf8():
    raw = pa.array([b"\xff"], pa.large_binary())
    return pa.Array.from_buffers(pa.large_string(), 1, raw.buffers()).cast(pa.string())


def with_column(name, values):
    table = rows(["odd"])
    return table.set_column(table.schema.get_field_index(name), name, values)


GROUPS = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), not_utf8())
ODD = [
    (with_column("groups", pa.array([["staff", None]])), "bad_value"),
    (with_column("groups", GROUPS), "bad_encoding"),
    (with_column("title", not_utf8()), "bad_encoding"),
    (with_column("updated_at", pa.array([2**60], pa.timestamp("us", "UTC"))), "bad_value"),
    (with_column("updated_at", pa.array([-(2**60)], pa.timestamp("us", "UTC"))), "bad_value"),
]


@pytest.mark.parametrize(("odd", "reason"), ODD)
def test_a_row_that_no_search_could_show_is_set_aside_and_its_commit_is_searchable(
    world, odd, reason
):
    quarantine = Quarantine(world.folder / "quarantine")
    world.upsert(rows(["3"], body="changed"))
    world.append(pa.concat_tables([odd, rows(["new"])]))

    def sync_aside():
        aside = SettingAside(quarantine, "id", "body")
        return sync(world.source, world.index, world.embedder, world.chunk, aside=aside)

    report = sync_aside()
    assert (report.mode, report.changed, report.quarantined) == ("incremental", 2, 1)
    assert [(row.key, row.reason) for row in quarantine.open()] == [("odd", reason)]
    world.overwrite(rows(["3", "new"]))  # deltalake itself cannot read such a row, to delete it
    report = sync_aside()
    assert (report.removed, quarantine.open()) == (19, [])
    world.check()


@pytest.mark.parametrize(("odd", "reason"), ODD)
def test_without_a_quarantine_such_a_row_is_named_and_the_old_generation_stays(world, odd, reason):
    before = world.index.version()
    world.append(odd)
    with pytest.raises(BadRow, match=r"document 'odd': column '(groups|title|updated_at)'"):
        world.sync()
    assert world.index.version() == before


def test_a_key_that_is_not_utf8_is_refused_by_name(world):
    before = world.index.version()
    world.append(with_column("id", not_utf8()))
    with pytest.raises(BadKeys, match=r"a key of .* is not UTF-8: b'\\xff' in 'id'"):
        world.sync()
    assert world.index.version() == before


@pytest.mark.parametrize("moment", [10**18, 10**25, -(10**18), "soon", None, 1e300])
def test_a_commit_whose_clock_shows_no_time_is_followed(world, moment):
    world.upsert(rows(["3"], body="changed"))
    lines = [json.loads(line) for line in world.commit_file(1).read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["timestamp"] = moment
    world.commit_file(1).write_text("\n".join(map(json.dumps, lines)))
    report = world.sync()
    assert report.changed == 1
    world.check()
    assert world.source.lag(report.version.source).seconds == 0.0
    world.upsert(rows(["4"], body="changed"))
    assert world.sync().mode == "incremental"
    world.check()


def test_an_index_of_another_history_is_not_called_up_to_date(world):
    """The table went back to version 0 by hand, and to 1 on another way."""
    world.upsert(rows(["3"], body="changed"))
    indexed = world.sync().version.source
    written = world.commit_file(1).read_text()
    world.commit_file(1).unlink()
    world.upsert(rows(["4"], body="changed"))
    assert world.commit_file(1).read_text() != written
    assert world.source.lag(indexed).versions is None
    world.sync()
    world.check()
    assert world.source.lag(world.index.version().source).versions == 0
