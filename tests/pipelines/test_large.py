"""A large change is written part by part, published at once, and taken up again after a kill."""

import pyarrow as pa
import pytest
from by_hand import delta, passage, unit
from worlds import CountingEmbedder, World, rows

from vector_index.errors import InvalidDelta
from vector_index.staging import STAGING


def staged_ids(world):
    folder = world.folder / "index" / STAGING
    files = folder.glob("*/*/documents.arrow")
    tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]
    return sorted(pa.concat_tables(tables)["document_id"].to_pylist())


class Died(BaseException):
    """Stands for the death of the process: nothing of ours catches it."""


class Mortal(CountingEmbedder):
    """Dies instead of embedding once so many texts have been given to it."""

    lives = 10**9

    def embed_passages(self, texts, *, on_progress=None):
        if len(self.texts) + len(texts) > self.lives:
            raise Died
        return super().embed_passages(texts, on_progress=on_progress)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("pipelines.sync.LARGE_DOCUMENTS", 20)
    monkeypatch.setattr("pipelines.sync.PART_PASSAGES", 10)
    monkeypatch.setattr("pipelines.parts._BATCH_DOCUMENTS", 5)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, keys=range(40), embedder=Mortal())


def staged(world):
    folder = world.folder / "index" / STAGING
    return len(list(folder.glob("*/*/staged.json")))


def test_a_large_first_sync_is_published_whole_as_one_segment(world):
    report = world.sync()
    assert (report.changed, report.passages, report.embedded) == (40, 40, 40)
    # One generation, of one segment.
    assert (report.version.number, staged(world)) == (1, 0)
    world.check()
    assert world.open_index().version() == report.version
    world.upsert(rows(["3", "x"], body="changed"))
    assert world.sync().mode == "incremental"
    world.check()


def test_a_large_change_replaces_and_removes_what_was_there(world):
    world.sync()
    world.upsert(rows([str(n) for n in range(5, 35)], body="changed"))
    world.delta.delete("id in ('0', '1')")
    world.append(rows(["x", "y"]))
    report = world.sync()
    assert (report.changed, report.removed) == (32, 2)
    world.check()
    world.index = world.open_index()
    world.check()


def test_after_a_death_only_what_was_not_yet_staged_is_embedded(world):
    world.embedder.lives = 25
    with pytest.raises(Died):
        world.sync()
    assert staged(world) == 2
    world.embedder.lives = 10**9
    world.embedder.texts.clear()
    world.index = world.open_index()
    report = world.sync()
    assert (report.changed, report.embedded) == (40, 20)
    assert len(set(world.embedder.texts)) == 20
    world.check()
    assert staged(world) == 0


def test_what_was_staged_of_an_older_version_counts_where_the_rows_are_the_same(world):
    world.embedder.lives = 25
    with pytest.raises(Died):
        world.sync()
    world.embedder.lives = 10**9
    gone, changed, *_ = staged_ids(world)
    world.delta.delete(f"id = '{gone}'")
    world.upsert(rows([changed], body="changed"))
    world.embedder.texts.clear()
    report = world.sync()
    assert (report.changed, report.embedded) == (39, 21)
    world.check()
    world.index = world.open_index()
    world.check()


def test_a_part_that_is_damaged_is_made_anew(world):
    world.embedder.lives = 25
    with pytest.raises(Died):
        world.sync()
    world.embedder.lives = 10**9
    damaged = sorted((world.folder / "index" / STAGING).glob("*/*/documents.arrow"))[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    world.embedder.texts.clear()
    assert world.sync().embedded == 30
    world.check()


def test_a_small_publish_removes_what_a_large_one_left_behind(world, monkeypatch):
    world.embedder.lives = 25
    with pytest.raises(Died):
        world.sync()
    world.embedder.lives = 10**9
    world.delta.delete("cast(id as int) > 9")
    world.sync()
    assert not (world.folder / "index" / STAGING).exists()
    world.check()


def test_an_error_while_a_part_is_written_publishes_nothing(world, monkeypatch):
    world.sync()
    before = world.index.version()
    world.upsert(rows([str(n) for n in range(30)], body="changed"))
    monkeypatch.setattr("vector_index.staging.write_arrow", lambda *a, **o: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.sync()
    assert world.open_index().version() == before
    monkeypatch.undo()
    world.sync()
    world.check()


def test_a_part_that_does_not_fit_the_index_is_refused(world):
    world.sync()
    with pytest.raises(InvalidDelta), world.index.lease():
        world.index.staging({"a": "hash-a"}).add(delta([(passage("a"), unit(1, 0))]))
