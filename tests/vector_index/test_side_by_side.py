"""Readers, operators and two writers in turn on one index: what each does while another acts."""

import os
import shutil
from pathlib import Path

import pytest
from by_hand import random_delta, random_settings, source

from vector_index import history as history_module
from vector_index import manifest as manifest_module
from vector_index import verify as verify_module
from vector_index.errors import GenerationNotFound, IndexMoved
from vector_index.history import history, rollback
from vector_index.local import LocalIndex
from vector_index.options import WriterOptions
from vector_index.verify import verify
from vector_index.writer import IndexWriter

SETTINGS = random_settings()


def publish(home, version):
    LocalIndex(home, SETTINGS).publish(random_delta([f"doc-{version}"]), source(version))


@pytest.fixture
def home(tmp_path):
    publish(tmp_path / "docs", 0)
    publish(tmp_path / "docs", 1)
    return tmp_path / "docs"


def after(module, name, monkeypatch, action):
    """The action happens once, right after the module has called what it calls `name`."""
    real, left = getattr(module, name), [action]

    def call(*args, **options):
        result = real(*args, **options)
        if left:
            left.pop()()
        return result

    monkeypatch.setattr(module, name, call)


def test_a_target_that_a_sync_pruned_meanwhile_is_not_rolled_back_to(home, monkeypatch):
    after(history_module, "open_generation", monkeypatch, lambda: publish(home, 2))
    with pytest.raises(GenerationNotFound, match="kept: 2, 3"):
        rollback(home, 1)
    assert LocalIndex(home, SETTINGS).version().number == 3


def test_a_verify_while_a_sync_prunes_finds_nothing_damaged(home, monkeypatch):
    after(verify_module, "kept_generations", monkeypatch, lambda: publish(home, 2))
    report = verify(home)
    assert report.generations == 1  # what was live; the rest is gone or came later


def test_nobody_sees_a_generation_that_is_half_removed(home, monkeypatch):
    seen = []
    real = shutil.rmtree

    def removed(path, **options):
        if (Path(path) / "manifest.json").exists():
            next(Path(path).rglob("*.arrow")).unlink()
            (Path(path) / "manifest.json").unlink()
        seen.extend(kept.problem for kept in history(home))
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", removed)
    publish(home, 2)
    assert seen
    assert set(seen) == {None}


def test_stats_of_an_index_that_is_pruned_meanwhile_are_told(home, monkeypatch):
    reader = LocalIndex(home, SETTINGS)
    publish(home, 2)
    publish(home, 3)
    assert reader.stats().number == 2
    real = os.walk

    def vanishing(entry):
        for folder, folders, names in real(entry):
            (Path(folder) / "owners.npy").unlink(missing_ok=True)
            yield folder, folders, names

    monkeypatch.setattr(os, "walk", vanishing)
    assert reader.stats().size_bytes > 0


def test_a_reader_that_lags_behind_checks_only_what_it_has_not_checked(home, monkeypatch):
    reader = LocalIndex(home, SETTINGS)
    before = {layer.segment.id: layer.segment for layer in reader.view().parts}
    with IndexWriter(home, SETTINGS, options=WriterOptions(merges=False)) as writer:
        for version in (2, 3, 4):
            writer.publish(random_delta([f"doc-{version}"]), source(version))
    assert "2-table-v1" not in [kept.generation for kept in history(home)]
    hashed = []
    real = manifest_module.sha256_of
    monkeypatch.setattr(
        manifest_module, "sha256_of", lambda path: (hashed.append(path), real(path))[1]
    )
    assert reader.refresh()
    after = {layer.segment.id: layer.segment for layer in reader.view().parts}
    assert all(after.get(key) is segment for key, segment in before.items())
    again = {path.parent.name for path in hashed if path.name != "deleted.npy"}
    assert not again & before.keys()
    assert len(again) > 0


def test_a_publish_of_what_was_compared_with_an_older_generation_is_refused(home):
    index = LocalIndex(home, SETTINGS)
    base = index.version()
    publish(home, 2)
    with pytest.raises(IndexMoved, match=r"2-table-v1 of .* 3-table-v2"):
        index.publish(random_delta([], removed=["doc-0"]), source(3), base=base)
    index.refresh()
    index.publish(random_delta([], removed=["doc-0"]), source(3), base=index.version())
    assert index.documents().keys() == {"doc-1", "doc-2"}


def test_a_lease_shows_what_a_writer_left_that_did_not_flush(home):
    index = LocalIndex(home, SETTINGS)
    base = index.version()
    with IndexWriter(home, SETTINGS) as writer:
        writer.upsert(random_delta(["extra"]))
        writer.delete(["doc-0"])
    with pytest.raises(IndexMoved):
        index.publish(random_delta(["doc-2"]), source(2), base=base)
    with index.lease():
        assert index.documents().keys() == {"doc-1", "extra"}
        change = random_delta(["doc-0", "doc-2"], removed=["extra"])
        index.publish(change, source(2), base=index.version())
    assert index.documents().keys() == {"doc-0", "doc-1", "doc-2"}
    assert index.version().source == source(2)
