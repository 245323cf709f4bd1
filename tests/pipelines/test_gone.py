"""What was deleted is served to nobody once its version is published, and can leave the disk."""

import itertools
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import STAFF, World, rows

from pipelines.quarantine import Quarantine
from pipelines.setting_aside import Rules, SettingAside
from pipelines.sources.scratch import scratch_folder, sweep
from pipelines.sync import sync
from vector_index.fulltext import open_fulltext
from vector_index.generation import FULLTEXT
from vector_index.history import history, rollback
from vector_index.local import LocalIndex
from vector_index.purging import purge
from vector_index.staging import STAGING

SECRET = "zyxsecret"
QUERIES = 10_000


def holders(folder):
    """The files that hold the word: plain, in Parquet's compressed pages, or as one of tantivy's
    terms, which it writes as the arcs of an automaton; of deleted passages too."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += repr(pq.read_table(path).to_pylist()).encode()
        if path.parent.name == FULLTEXT and path.name == "meta.json":
            text = open_fulltext(path.parent, has_tenant=True, has_groups=True)
            content += SECRET.encode() * text.passages_with("text", SECRET)
        if SECRET.encode() in content.lower():
            found.append(path.relative_to(folder))
    return found


class Secretive(World):
    """A world that sets long rows aside; its table is outside of `state`, what we write within."""

    def __init__(self, folder):
        self.state = folder / "state"
        super().__init__(folder)
        self.quarantine = Quarantine(self.state / "quarantine" / "docs")

    def open_index(self):
        made = super().open_index().settings
        self.home = self.state / "docs"
        return LocalIndex(self.home, made)

    def sync(self):
        aside = SettingAside(self.quarantine, "id", "body", Rules(max_bytes=2000))
        return sync(self.source, self.index, self.embedder, self.chunk, aside=aside)

    def clean_up(self):
        purge(self.home)
        self.quarantine.clean()


@pytest.fixture
def world(tmp_path):
    world = Secretive(tmp_path)
    secret = [rows([key], body=f"{SECRET} {key}") for key in ("s1", "s2")]
    long = rows(["s3"], body=f"{SECRET} " * 400)
    world.append(pa.concat_tables([*secret, long]))
    world.sync()
    assert {row.key for row in world.quarantine.open()} == {"s3"}
    found = holders(world.state)
    assert {path.parts[0] for path in found} == {"docs", "quarantine"}
    assert {path.parts[3] for path in found if path.parts[0] == "docs"} == {"passages", FULLTEXT}
    return world


def test_deleted_text_is_in_no_file_after_a_clean_up(world):
    world.upsert(rows(["3"], body="changed"))
    world.sync()
    world.delta.delete("id like 's%'")
    world.upsert(rows(["4"], body="changed"))
    world.sync()
    assert holders(world.state), "the generation before the deletion is kept"
    world.clean_up()
    assert holders(world.state) == []
    assert len(history(world.home)) == 1
    world.index.refresh()
    world.check()
    world.upsert(rows(["5"], body="after it"))
    assert world.sync().mode == "incremental"
    world.check()


def test_text_that_was_replaced_is_in_no_file_after_a_clean_up(world):
    world.upsert(rows(["s1", "s2", "s3"], body="harmless"))
    world.sync()
    world.clean_up()
    assert holders(world.state) == []
    world.index.refresh()
    world.check()


def test_a_table_that_was_emptied_leaves_nothing(world):
    world.delta.delete()
    world.sync()
    world.clean_up()
    assert holders(world.state) == []
    world.index.refresh()
    world.check()


def test_a_clean_up_of_what_holds_nothing_dead_changes_no_answer(world):
    before = world.indexed()
    world.clean_up()
    world.index.refresh()
    assert world.indexed() == before
    purge(world.home)
    assert LocalIndex(world.home, world.index.settings).documents() == world.index.documents()


def test_an_index_that_was_rolled_back_is_cleaned_to_what_is_live(world):
    world.delta.delete("id like 's%'")
    world.sync()
    rollback(world.home, history(world.home)[-1].manifest.number)
    world.clean_up()
    (left,) = history(world.home)
    assert (left.is_live, left.manifest.source.version) == (True, 1)
    world.index.refresh()
    world.sync()
    world.clean_up()
    assert holders(world.state) == []


def test_what_a_killed_sync_had_staged_is_gone_too(world, monkeypatch):
    monkeypatch.setattr("pipelines.sync.LARGE_DOCUMENTS", 2)
    monkeypatch.setattr("pipelines.sync.PART_PASSAGES", 2)
    monkeypatch.setattr("pipelines.parts._BATCH_DOCUMENTS", 2)
    more = [rows([key], body=f"{SECRET} staged {key}") for key in ("t1", "t2", "t3", "t4")]
    world.append(pa.concat_tables(more))
    with monkeypatch.context() as dying:
        dying.setattr("vector_index.staging.StagedParts.publish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.sync()
    assert [path for path in holders(world.home) if path.parts[0] == STAGING]
    world.delta.delete("id like 's%' or id like 't%'")
    world.sync()
    world.clean_up()
    assert holders(world.state) == []
    world.index.refresh()
    world.check()


def test_of_rows_in_quarantine_only_those_that_are_open_stay(world):
    orphan = world.state / "quarantine" / "docs" / "part-of-a-killed-merge.parquet"
    pq.write_table(pa.table({"row": [SECRET]}), orphan)
    world.clean_up()
    assert not orphan.exists()
    (open_row,) = world.quarantine.open()
    assert SECRET in open_row.row


def test_scratch_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from pipelines.sources.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "spilled").write_text(sys.argv[2])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path, SECRET], check=False, timeout=60)
    assert holders(tmp_path)
    with scratch_folder(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]
        sweep(tmp_path)
        assert mine.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_row_is_served_in_none_of_ten_thousand_queries(world):
    """Asked by every way of searching, by readers of their own, while syncs go on."""
    vector = world.embedder.embed_queries([f"{SECRET} words about number s1"])[0]
    reader = world.open_index()
    deleted_at, counts, wrong, stop = [], [0, 0], [], threading.Event()

    def ask(index, me):
        for mode in itertools.cycle(("ann", "full_text", "hybrid")):
            if stop.is_set() or counts[me] >= QUERIES // 2:
                return
            at = bool(deleted_at)
            if index is reader:
                index.refresh()
            found = index.search(vector, text=SECRET, k=50, access=STAFF, mode=mode)
            ids = {hit.passage.document_id for hit in found.hits}
            is_after = found.version.source.version >= 2
            if at and not is_after:
                wrong.append(f"{mode}: version {found.version.source.version} after it was gone")
            if is_after and ids & {"s1", "s2"}:
                wrong.append(f"{mode}: {ids}")
            if not is_after and not {"s1", "s2"} <= ids:
                wrong.append(f"{mode}: {ids} before it was deleted")
            counts[me] += is_after

    threads = [
        threading.Thread(target=ask, args=(index, me))
        for me, index in enumerate((world.index, reader))
    ]
    for thread in threads:
        thread.start()
    world.delta.delete("id in ('s1', 's2')")
    assert world.sync().version.source.version == 2
    deleted_at.append(2)
    for number in range(5):
        world.upsert(rows([str(number)], body="changed"))
        world.sync()
    for thread in threads:
        thread.join(120)
    stop.set()
    assert wrong == []
    assert sum(counts) >= QUERIES
