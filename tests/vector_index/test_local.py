"""What only an index on disk can promise."""

import json
import multiprocessing

import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit

from vector_index.errors import (
    EmbedderMismatch,
    IndexBusy,
    IndexCorrupt,
    InvalidDelta,
    SettingsMismatch,
)
from vector_index.gpu import CpuAccelerator, Device
from vector_index.gpu.replica import Replica
from vector_index.local import LocalIndex
from vector_index.passages import SourceVersion


@pytest.fixture
def home(tmp_path, four):
    LocalIndex(tmp_path / "docs", settings()).publish(four, source())
    return tmp_path / "docs"


def test_a_generation_is_named_by_number_table_and_version(home):
    assert (home / "CURRENT").read_text() == "1-table-v0"
    manifest = json.loads((home / "generations/1-table-v0/manifest.json").read_text())
    assert (manifest["passages"], manifest["documents"]) == (4, 4)
    assert manifest["settings"]["embedder"]["id"] == "by-hand"


def test_a_reader_serves_its_generation_until_it_refreshes(home):
    reader = LocalIndex(home, settings())
    writer = LocalIndex(home, settings())
    writer.publish(delta([], removed=["a"]), source(1))
    assert reader.version().number == 1
    assert [h.passage.document_id for h in _all(reader)] == ["a", "b", "c"]
    assert reader.refresh()
    assert [h.passage.document_id for h in _all(reader)] == ["b", "c"]
    assert not reader.refresh()


def test_two_generations_are_kept_and_drafts_of_crashed_writers_are_cleared(home):
    (home / "generations/.draft-crashed").mkdir()
    index = LocalIndex(home, settings())
    for number in range(1, 4):
        index.publish(delta([(passage("b"), unit(1, number))]), source(number))
    assert sorted(p.name for p in (home / "generations").iterdir()) == ["3-table-v2", "4-table-v3"]


@pytest.mark.parametrize("suffix", ["index.faiss", ".arrow", ".documents.arrow", "deleted.npy"])
def test_a_flipped_bit_is_found_before_serving_and_the_old_generation_stays(home, suffix):
    reader = LocalIndex(home, settings())
    LocalIndex(home, settings()).publish(delta([], removed=["a"]), source(1))
    victim = next(
        p for p in (home / "generations/2-table-v1").rglob("*") if p.name.endswith(suffix)
    )
    damaged = bytearray(victim.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    victim.unlink()  # shared with the old generation by hard link
    victim.write_bytes(damaged)
    with pytest.raises(IndexCorrupt, match=victim.name):
        reader.refresh()
    assert len(_all(reader)) == 3


def test_another_embedder_is_refused_naming_both(home):
    with pytest.raises(EmbedderMismatch, match=r"by-hand.*weights w\).*by-hand.*weights other"):
        LocalIndex(home, settings(weights="other"))


def test_another_kind_is_refused_naming_both(home):
    with pytest.raises(SettingsMismatch, match="kind 'flat', now asked for 'exact'"):
        LocalIndex(home, settings("exact"))


def test_a_second_writer_in_another_process_is_refused_at_once(home, four):
    index = LocalIndex(home, settings())
    with index.writing():
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            assert pool.apply(_try_to_write, (home,)) == "busy"


def test_vectors_of_unchanged_text_are_handed_back_by_hash(home):
    vectors = LocalIndex(home, settings()).vectors_of({"h-b-0", "never"})
    assert list(vectors) == ["h-b-0"]
    assert vectors["h-b-0"] == pytest.approx([0.8, 0.6])


def _try_to_write(home):
    try:
        with LocalIndex(home, settings()).writing():
            return "wrote"
    except IndexBusy:
        return "busy"


def _all(index):
    return index.search(unit(1, 0), k=10, access=EVERYONE).hits


def test_segments_are_scanned_where_they_are_placed_and_answer_the_same(home, four):
    device = Device(CpuAccelerator(), name="card", memory_bytes=10**9)
    try:
        placed = LocalIndex(home, settings(), place=device.replica)
        (layer,) = placed.view().parts
        assert isinstance(layer.scanned, Replica)
        assert _all(placed) == _all(LocalIndex(home, settings()))
        placed.publish(delta([(passage("d"), unit(2, 1))], removed=["b"]), source(1))
        old, new = placed.view().parts
        assert old.scanned is layer.scanned
        assert isinstance(new.scanned, Replica)
        assert [h.passage.document_id for h in _all(placed)] == ["a", "d", "c"]
    finally:
        device.close()


@pytest.mark.parametrize("table_id", ["", "../up", "a/b", ".hidden", "a b", "x" * 129, "a\n"])
def test_a_table_id_that_cannot_name_a_folder_is_refused(table_id):
    with pytest.raises(InvalidDelta, match="cannot name a folder"):
        SourceVersion(table_id, 0, "fp", source().committed_at)
