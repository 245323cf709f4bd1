"""Rows that cannot be indexed: set aside with a reason, while the rest of the commit is there."""

import pytest
from deltalake import DeltaTable
from worlds import FEED, AsideWorld, rows

from pipelines import sync as sync_module
from pipelines.proof import prove
from pipelines.quality import parse_checks
from pipelines.quarantine import Quarantine
from pipelines.reapply import applier
from pipelines.retry import retry
from pipelines.setting_aside import Rules, SettingAside
from pipelines.sync import rebuild


@pytest.fixture(params=["whole", "parts"])
def world(tmp_path, request, monkeypatch):
    if request.param == "parts":
        monkeypatch.setattr(sync_module, "LARGE_DOCUMENTS", 0)
    return AsideWorld(tmp_path)


def test_a_poison_row_is_set_aside_and_the_rest_of_the_commit_is_searchable(world):
    world.append(rows(["bad"], body="poison"))
    report = world.sync()
    assert (report.changed, report.quarantined) == (20, 1)
    assert world.held() == {"bad": "embedder_failed"}
    assert world.index.documents().keys() == {str(key) for key in range(20)}
    assert world.index.version().source == world.source.version()


def test_syncs_stay_in_proportion_while_a_row_is_held(world):
    world.append(rows(["bad"], body="poison"))
    world.sync()
    world.upsert(rows(["3"], body="changed"))
    report = world.sync()
    assert (report.mode, report.changed, report.quarantined) == ("incremental", 1, 0)
    assert world.held() == {"bad": "embedder_failed"}
    assert world.sync().mode == "noop"


def test_a_row_that_is_mended_or_deleted_leaves_the_quarantine(world):
    world.append(rows(["bad", "worse"], body="poison"))
    world.sync()
    world.upsert(rows(["bad"], body="healthy"))
    world.delta.delete("id = 'worse'")
    report = world.sync()
    assert (report.mode, world.held()) == ("incremental", {})
    world.check()


def test_an_older_version_of_a_row_that_went_bad_is_not_served(world):
    world.sync()
    world.upsert(rows(["7"], body="poison"))
    world.sync()
    assert world.held() == {"7": "embedder_failed"}
    assert "7" not in world.index.documents()
    assert ("7", 0) not in world.searched("full_text")


def test_a_retry_indexes_what_can_be_indexed_now(world):
    world.append(rows(["bad"], body="poison"))
    world.sync()

    def again():
        snapshot = world.source.snapshot()
        aside = SettingAside(world.quarantine, "id", "body", world.rules, frozenset({"bad"}))
        apply = applier(snapshot, world.index, world.embedder, world.chunk,
                        under=world.index.version().source, aside=aside)  # fmt: skip
        every = list({row.reason for row in world.quarantine.open()})
        return retry(world.quarantine, snapshot.hashes(), world.index.documents, apply,
                     reasons=every)  # fmt: skip

    assert again().failed == ("bad",)
    world.embedder.is_cured = True
    assert again().indexed == ("bad",)
    assert world.held() == {}
    world.check()


def test_a_proof_knows_what_is_in_quarantine(world):
    world.append(rows(["bad"], body="poison"))
    world.sync()
    proof = prove(world.source, world.index, world.embedder, world.chunk,
                  set_aside=world.quarantine.held_as())  # fmt: skip
    assert proof.is_equal
    assert proof.drift.quarantined == 1


def test_rules_set_rows_aside_too_long_or_not_as_declared(world):
    rule = {"column": "kind", "check": "allowed", "values": ["note"], "on_fail": "quarantine"}
    schema = DeltaTable(str(world.table)).to_pyarrow_table().schema
    world.rules = Rules(parse_checks([rule], schema), max_bytes=60)
    world.append(rows(["odd"], kind="rant"))
    world.append(rows(["long"], body="long " * 20))
    report = world.sync()
    assert report.quarantined == 2
    assert world.held() == {"odd": "quality", "long": "too_long"}
    assert len(world.index.documents()) == 20


def test_of_very_many_bad_rows_the_first_are_kept_with_their_content(world, monkeypatch):
    """A rule that refuses a whole table is not to hold that table in memory."""
    monkeypatch.setattr("pipelines.setting_aside._SHOWN_ROWS", 3)
    world.rules = Rules(max_bytes=10)
    report = world.sync()
    assert (report.changed, report.quarantined) == (0, 20)
    found = world.quarantine.open()
    assert len([row for row in found if row.row is not None]) == 3
    assert {(row.reason, row.row_hash is None) for row in found} == {("too_long", False)}


def test_a_rebuild_sets_rows_aside_too_and_tries_all_of_them_again(world):
    world.append(rows(["bad"], body="poison"))
    world.sync()

    def again():
        aside = SettingAside(world.quarantine, "id", "body", world.rules)
        return rebuild(world.source, world.folder / "index", world.index.settings, world.embedder,
                       world.chunk, aside=aside)  # fmt: skip

    assert (again().quarantined, world.held()) == (1, {"bad": "embedder_failed"})
    world.embedder.is_cured = True
    assert (again().quarantined, world.held()) == (0, {})
    world.index.refresh()
    world.check()


def mend_in_a_sync_that_dies(world, monkeypatch):
    """It has published the mended row, and not yet closed it."""
    world.upsert(rows(["bad"], body="healthy"))
    with monkeypatch.context() as dying:
        dying.setattr(Quarantine, "resolve", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.sync()
    world.index.refresh()


def test_a_row_that_a_death_left_both_in_quarantine_and_indexed_is_closed_by_the_next_commit(
    world, monkeypatch
):
    """Left open, the row would be counted twice, and every sync from then on compare all rows."""
    world.append(rows(["bad"], body="poison"))
    world.sync()
    mend_in_a_sync_that_dies(world, monkeypatch)
    assert ("bad" in world.index.documents(), world.held()) == (True, {"bad": "embedder_failed"})
    world.upsert(rows(["3"], body="changed"))
    report = world.sync()
    assert (report.mode, report.changed, world.held()) == ("incremental", 1, {})
    world.check()


def test_the_same_without_a_feed(world, monkeypatch):
    world.delta.alter.set_table_properties({FEED: "false"})
    world.append(rows(["bad", "worse"], body="poison"))
    world.sync()
    mend_in_a_sync_that_dies(world, monkeypatch)
    world.upsert(rows(["3"], body="changed"))
    report = world.sync()
    assert (report.mode, report.changed) == ("diff", 1)
    assert world.held() == {"worse": "embedder_failed"}
    assert "bad" in world.index.documents()
