"""What `index status` and `GET /indexes/{name}` say of an index, against what was done to it.

In this process and with the hashing embedder: the commands are test_command_line's.
"""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake

from headrace import indexes
from headrace.follower import FollowedIndex
from headrace.index_form import index_form
from headrace.settings import load_settings
from headrace.status import status_form
from headrace.watching import build_watcher, last_word, sync_once
from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.errors import BadKeys, PipelineError
from vector_index.errors import IndexBusy

FEED = {"delta.enableChangeDataFeed": "true"}


def rows(*keys, body="the body of number"):
    bodies = [f"{body} {key}" for key in keys]
    return pa.table({"id": list(keys), "title": list(keys), "body": bodies})


class World:
    """A table of ten rows, its index, and both ways to ask about it."""

    def __init__(self, folder):
        form = {
            "models": {"embed": {"task": "embedding", "engine": "onnx", "weights": "w"}},
            "indexes": {
                "docs": {
                    "source": {"path": "table"}, "embedder": "embed",
                    "key": "id", "title": "title", "text": "body",
                }
            },
            "chains": {},
            "principal": {"tenant": "t", "groups": []},
        }  # fmt: skip
        (folder / "headrace.yaml").write_text(yaml.safe_dump(form))
        self.settings, self.path = load_settings(), str(folder / "table")
        write_deltalake(self.path, rows(*"0123456789"), configuration=FEED)
        self.embedder = HashingEmbedder(32)
        self.index = indexes.build_index(self.settings, "docs", self.embedder)

    def append(self, table):
        write_deltalake(self.path, table, mode="append")

    def sync(self):
        return sync_once(self.settings, "docs", self.embedder, self.index)

    def status(self):
        return status_form(self.settings, "docs")

    def served(self):
        follower = FollowedIndex(self.index, indexes.build_source(self.settings, "docs"))
        follower.start()
        try:
            deadline = time.monotonic() + 30
            while follower.lag is None and time.monotonic() < deadline:
                time.sleep(0.01)
            return index_form(self.settings, "docs", follower)
        finally:
            follower.stop()


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_CONFIG", str(tmp_path / "headrace.yaml"))
    for name in ("HEADRACE_WEIGHTS_DIR", "HEADRACE_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    return World(tmp_path)


def test_an_index_at_its_table_is_behind_by_nothing(world):
    report = world.sync()
    status, served = world.status(), world.served()
    assert status["generation"] == served.version.generation == report.version.generation
    assert status["table_version"] == served.version.table_version == 0
    assert (status["documents"], served.documents) == (10, 10)
    assert (status["lag_versions"], status["lag_s"], status["pending_rows"]) == (0, 0.0, 0)
    assert (served.lag.versions, served.lag.seconds, served.pending_rows) == (0, 0.0, 0)


def test_versions_seconds_and_rows_behind_are_counted_off_the_tables_log(world):
    world.sync()
    world.append(rows("a", "b", "c"))
    DeltaTable(world.path).delete("id = '3'")
    # The older of the two commits is made an hour older than it is.
    commit = Path(world.path) / "_delta_log" / f"{1:020d}.json"
    written = DeltaTable(world.path).history()[1]["timestamp"]
    commit.write_text(commit.read_text().replace(str(written), str(written - 3_600_000)))
    status, served = world.status(), world.served()
    assert status["lag_versions"] == served.lag.versions == 2
    assert status["pending_rows"] == served.pending_rows == 4
    assert status["lag_s"] == pytest.approx(3600, abs=60)
    assert served.lag.seconds == pytest.approx(3600, abs=60)


def test_where_the_table_keeps_no_feed_the_pending_rows_are_not_guessed(world):
    world.sync()
    DeltaTable(world.path).alter.set_table_properties({"delta.enableChangeDataFeed": "false"})
    world.append(rows("a"))
    assert (world.status()["lag_versions"], world.status()["pending_rows"]) == (2, None)
    assert world.served().pending_rows is None


def test_a_failed_sync_leaves_its_error_and_a_good_one_after_it_keeps_the_words(world):
    world.sync()
    world.append(rows("0"))
    with pytest.raises(BadKeys, match="'0' stands more than once"):
        world.sync()
    for said in (last_word(world.settings, "docs"), world.served().sync):
        assert (said.phase, said.failures) == ("stopped", 1)
        assert "'0' stands more than once" in said.last_error
        assert said.last_error_at is not None
    with pytest.raises(PipelineError):
        world.sync()
    assert world.status()["watcher"]["failures"] == 2
    write_deltalake(world.path, rows("0", "1"), mode="overwrite")
    world.sync()
    said = world.status()["watcher"]
    assert said["failures"] == 0
    assert "'0' stands more than once" in said["last_error"]


def test_the_throughput_is_that_of_the_last_sync_that_changed_anything(world):
    report = world.sync()
    assert world.sync().is_noop
    for said in (last_word(world.settings, "docs"), world.served().sync):
        assert said.duration_s == report.duration_s
        assert said.rows_per_s == pytest.approx(10 / report.duration_s)


def test_while_a_sync_runs_others_see_how_much_of_it_is_left(world, monkeypatch):
    seen = []
    embed = world.embedder.embed_passages

    def look(texts, *, on_progress=None):
        on_progress(len(texts) // 2)
        seen.append(last_word(world.settings, "docs"))
        return embed(texts)

    monkeypatch.setattr(world.embedder, "embed_passages", look)
    world.sync()
    assert [(one.is_alive, one.phase, one.pending_rows) for one in seen] == [(True, "syncing", 5)]
    assert last_word(world.settings, "docs").pending_rows is None


def test_a_sync_by_hand_does_not_speak_for_a_watcher_that_is_alive(world):
    watcher = build_watcher(world.settings, "docs", world.embedder, world.index)
    watcher.start()
    deadline = time.monotonic() + 30
    while watcher.state().syncs == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    said = last_word(world.settings, "docs")
    assert said.is_alive
    with world.index.lease(), pytest.raises(IndexBusy):
        world.sync()
    assert last_word(world.settings, "docs").failures == 0
    watcher.stop()
    assert (said.phase, last_word(world.settings, "docs").phase) == ("idle", "stopped")


def test_whoever_was_killed_is_not_said_to_be_syncing(world):
    world.sync()
    file = world.settings.state_dir / "watching" / "docs.json"
    gone = '"phase": "syncing", "pending_rows": 7, "pid": 4194305, "old"'
    file.write_text(file.read_text().replace('"phase": "stopped"', gone + ': "x"'))
    said = last_word(world.settings, "docs")
    assert (said.is_alive, said.phase, said.pending_rows) == (False, "stopped", None)


def test_a_table_that_cannot_be_read_is_named_and_the_rest_is_still_told(world):
    world.sync()
    shutil.rmtree(world.path)
    status = world.status()
    assert (status["documents"], status["lag_versions"], status["pending_rows"]) == (10, None, None)
    assert "no Delta table at" in status["table_problem"]


def test_drift_is_told_of_the_newest_change_against_all_before_it(world):
    first = world.sync().version.generation
    drift = world.status()["drift"]
    assert (drift["generation"], drift["vectors"]) == (first, 10)
    assert (drift["mean_cosine"], drift["index_spread"]) == (None, None)
    world.append(rows("a", "b"))
    world.sync()
    usual = world.served().drift
    assert (usual.vectors, usual.generation) == (2, world.served().version.generation)
    assert usual.mean_cosine > 0.8
    world.append(rows(*(str(n) for n in range(20, 40)), body="please enable cookies"))
    world.sync()
    odd = world.served().drift
    assert world.status()["drift"] == odd.model_dump()
    assert odd.mean_cosine < 0.5 < usual.mean_cosine
    assert odd.near_zero_share == 0
    assert world.sync().is_noop
    assert world.served().drift == odd


def test_another_embedders_vectors_are_not_compared(world):
    world.sync()
    world.append(rows("a"))
    world.embedder = SimpleNamespace(
        info=HashingEmbedder(64).info, embed_passages=HashingEmbedder(64).embed_passages
    )
    home = world.settings.state_dir / "indexes" / "docs"
    shutil.rmtree(home)
    world.index = indexes.build_index(world.settings, "docs", world.embedder)
    world.sync()
    drift = world.status()["drift"]
    assert (drift["vectors"], drift["mean_cosine"]) == (11, None)
