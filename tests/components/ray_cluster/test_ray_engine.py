"""The same sync on a real Ray cluster of this machine: the same index, the same rows set aside.

Runs in an environment of its own, with the extra `ray`: `make test-components`.
"""

import os
import sys
from functools import partial

import numpy as np
import pytest
import ray
from worker_tools import tools
from worlds import World, rows

from pipelines.engines.ray_data import RayEngine
from pipelines.errors import EmbedderStuck, EngineFailed, QualityFailed
from pipelines.quality import parse_checks
from pipelines.quarantine import Quarantine
from pipelines.setting_aside import Rules, SettingAside
from pipelines.sync import sync

# What Ray itself does with its own settings, and when its processes end.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore:.*subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
]


class Cluster(World):
    """A world that syncs on Ray."""

    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        self.seen = folder / "seen"
        self.seen.mkdir()
        self.quarantine = Quarantine(folder / "quarantine")
        self.rules = Rules()

    def sync(self):
        engine = RayEngine(partial(tools, self.seen), self.chunk, workers=1)
        aside = SettingAside(self.quarantine, "id", "body", self.rules)
        return sync(self.source, self.index, self.embedder, self.chunk, engine=engine, aside=aside)

    def texts(self):
        file = self.seen / "texts"
        return sum(map(int, file.read_text().split())) if file.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # it is on loopback, and gone in a minute
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield
        ray.shutdown()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("pipelines.parts._BATCH_DOCUMENTS", 25)
    monkeypatch.setattr("pipelines.sync.LARGE_DOCUMENTS", 100)
    monkeypatch.setattr("pipelines.sync.PART_PASSAGES", 100)


def content(index):
    """Every passage in the order of the index, and its vector."""
    view = index.view()
    counts = [part.segment.vectors.count for part in view.parts]
    parts = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([np.arange(count) for count in counts])
    vectors = np.concatenate([part.segment.vectors.originals for part in view.parts])
    return view.take(parts, places), vectors


def test_the_index_is_that_of_the_local_engine_passage_by_passage(tmp_path):
    world = Cluster(tmp_path, keys=range(300))
    report = world.sync()
    assert (report.changed, report.passages, report.embedded) == (300, 300, 300)
    world.check()
    here = World(tmp_path / "here", keys=None)
    here.table = world.table
    here.open()
    here.sync()
    passages, vectors = content(world.index)
    expected, expected_vectors = content(here.index)
    assert passages == expected
    np.testing.assert_array_equal(vectors, expected_vectors)
    # One actor built one embedder, and it embedded everything.
    assert len(list(world.seen.glob("built-*"))) == 1
    assert world.texts() == 300


def test_only_text_that_is_new_to_the_index_is_embedded(tmp_path):
    world = Cluster(tmp_path, keys=range(30))
    world.sync()
    world.upsert(rows(["1", "2"], kind="memo"))
    world.upsert(rows(["3"], body="changed"))
    report = world.sync()
    assert (report.changed, report.embedded, world.texts()) == (3, 1, 31)
    world.check()


def test_a_poison_row_is_set_aside_and_the_others_are_indexed(tmp_path):
    world = Cluster(tmp_path, keys=range(30))
    world.append(rows(["bad"], body="poison"))
    report = world.sync()
    assert (report.changed, report.quarantined) == (30, 1)
    (row,) = world.quarantine.open()
    assert (row.key, row.reason) == ("bad", "embedder_failed")
    assert "cannot" in row.detail
    assert world.index.documents().keys() == {str(key) for key in range(30)}


def test_an_actor_that_dies_is_replaced_and_no_row_is_missing(tmp_path):
    world = Cluster(tmp_path, keys=range(60))
    (world.seen / "deadly").touch()
    assert world.sync().changed == 60
    assert len(list(world.seen.glob("built-*"))) == 2
    world.check()


def test_an_embedder_that_fails_on_every_text_ends_the_sync_by_its_name(tmp_path):
    world = Cluster(tmp_path, keys=range(30))
    (world.seen / "broken").touch()
    with pytest.raises(EmbedderStuck, match="no texts today"):
        world.sync()
    (world.seen / "broken").unlink()
    world.sync()
    world.check()


def test_an_error_while_rows_are_read_ends_the_sync_by_its_name(tmp_path):
    world = Cluster(tmp_path, keys=range(60))
    rule = {"column": "body", "check": "length", "min": 1000, "on_fail": "fail"}
    world.rules = Rules(parse_checks([rule], world.delta.to_pyarrow_table().schema))
    with pytest.raises(QualityFailed):
        world.sync()


def test_workers_that_cannot_build_an_embedder_are_a_named_error(tmp_path):
    world = Cluster(tmp_path, keys=range(30))
    engine = RayEngine(partial(tools, tmp_path / "nowhere"), world.chunk, workers=1)
    with pytest.raises(EngineFailed, match="nowhere"):
        sync(world.source, world.index, world.embedder, world.chunk, engine=engine)


def test_a_table_larger_than_what_may_be_under_way_is_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.engines.ray_data._AHEAD", 2)
    world = Cluster(tmp_path, keys=range(200))
    assert world.sync().changed == 200
    world.check()
