"""Ways back and ways anew: history, rollback, rebuild, verify, stats."""

from dataclasses import replace

import numpy as np
import pytest
from by_hand import EVERYONE, random_delta, random_settings, random_vectors, source

from vector_index.building import create, rebuild
from vector_index.errors import (
    EmbedderMismatch,
    GenerationNotFound,
    IndexBusy,
    IndexCorrupt,
    IndexExists,
    IndexNotFound,
    InvalidDelta,
)
from vector_index.history import history, rollback
from vector_index.local import LocalIndex
from vector_index.options import WriterOptions
from vector_index.passages import EmbedderIdentity
from vector_index.verify import verify
from vector_index.writer import IndexWriter

SETTINGS = random_settings()
NEW = replace(SETTINGS, embedder=EmbedderIdentity("other", "v", 8))


@pytest.fixture
def home(tmp_path):
    index = LocalIndex(tmp_path / "docs", SETTINGS)
    index.publish(random_delta(["a", "b"]), source())
    index.publish(random_delta(["b", "c"], seed=1, removed=["a"]), source(1))
    return tmp_path / "docs"


def embed(texts):
    """A stand-in embedder of dimension 8: the vector depends on the text alone."""
    return np.concatenate([random_vectors(sum(text.encode()), 1, 8) for text in texts])


def test_history_tells_the_kept_generations_newest_first(home):
    second, first = history(home)
    assert [(k.generation, k.is_live) for k in (second, first)] == [
        ("2-table-v1", True), ("1-table-v0", False),
    ]  # fmt: skip
    assert (second.manifest.parent, first.manifest.parent) == ("1-table-v0", None)
    newest = second.manifest
    assert (newest.documents, newest.passages, newest.source) == (2, 2, source(1))
    assert first.manifest.created_at <= newest.created_at
    assert history(home.parent / "nothing") == []


@pytest.mark.parametrize("to", [1, "1-table-v0"])
def test_a_rollback_makes_a_kept_generation_live_again(home, to):
    reader = LocalIndex(home, SETTINGS)
    version = rollback(home, to)
    assert (version.number, version.source) == (1, source())
    assert reader.refresh()
    assert reader.documents() == {"a": "a-0", "b": "b-0"}
    assert [entry.is_live for entry in history(home)] == [False, True]


def test_after_a_rollback_the_next_generation_goes_on_from_there(home):
    rollback(home, 1)
    index = LocalIndex(home, SETTINGS)
    version = index.publish(random_delta(["d"]), source(2))
    assert (version.number, history(home)[0].manifest.parent) == (3, "1-table-v0")
    assert index.documents().keys() == {"a", "b", "d"}


def test_a_rollback_loses_no_unflushed_change(home):
    with IndexWriter(home, SETTINGS) as writer:
        writer.upsert(random_delta(["z"], seed=3))
    rollback(home, 1)
    assert LocalIndex(home, SETTINGS).documents().keys() == {"a", "b"}
    with IndexWriter(home, SETTINGS) as writer:
        assert writer.documents().keys() == {"a", "b"}
    rollback(home, 3)
    assert LocalIndex(home, SETTINGS).documents().keys() == {"b", "c", "z"}


@pytest.mark.parametrize("to", [7, "7-table-v0", "../escape"])
def test_an_unknown_generation_is_refused_with_the_list_of_kept_ones(home, to):
    with pytest.raises(GenerationNotFound, match=f"no generation {to} of 'docs'; kept: 1, 2"):
        rollback(home, to)
    assert LocalIndex(home, SETTINGS).version().number == 2


def test_a_damaged_generation_is_not_rolled_back_to(home):
    victim = next((home / "generations/1-table-v0").rglob("*.documents.arrow"))
    victim.unlink()
    with pytest.raises(IndexCorrupt, match=r"documents\.arrow"):
        rollback(home, 1)
    assert LocalIndex(home, SETTINGS).version().number == 2


def flip_a_bit(path):
    """As a failing disk does: in a new file, for the old one's bytes may be mapped and shared."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["manifest.json", "segments/*/keys.npy"])
def test_a_damaged_live_generation_is_listed_as_such_and_can_be_left(home, name):
    flip_a_bit(next((home / "generations/2-table-v1").glob(name)))
    assert (history(home)[0].problem is None) == (name != "manifest.json")
    assert rollback(home, 1).number == 1
    assert LocalIndex(home, SETTINGS).documents() == {"a": "a-0", "b": "b-0"}


def test_leaving_a_damaged_generation_does_not_lose_changes_after_it_in_silence(home):
    with IndexWriter(home, SETTINGS) as writer:
        writer.upsert(random_delta(["z"], seed=3))
    flip_a_bit(home / "generations/2-table-v1/manifest.json")
    with pytest.raises(IndexCorrupt, match="changes after it wait in"):
        rollback(home, 1)
    (home / "wal").rename(home / "wal-set-aside")
    assert rollback(home, 1).number == 1


def test_nobody_goes_back_under_a_writer(home):
    with IndexWriter(home, SETTINGS), pytest.raises(IndexBusy, match="'docs'"):
        rollback(home, 1)


def test_create_makes_an_empty_index_once(tmp_path):
    version = create(tmp_path / "new", SETTINGS, source())
    assert version.number == 1
    index = LocalIndex(tmp_path / "new", SETTINGS)
    assert (index.count(), index.documents()) == ((0, 0), {})
    assert index.search(random_vectors(0, 1)[0], k=3, access=EVERYONE).hits == ()
    with pytest.raises(IndexExists):
        create(tmp_path / "new", SETTINGS, source())
    with pytest.raises(IndexExists):
        create(tmp_path / "new", NEW, source())


def test_a_rebuild_under_another_kind_keeps_vectors_and_content(home):
    before = LocalIndex(home, SETTINGS)
    query = random_vectors(5, 1)[0]
    hits = before.search(query, k=5, access=EVERYONE).hits
    exact = replace(SETTINGS, kind="exact")
    version = rebuild(home, exact)
    assert (version.number, version.source) == (3, source(1))
    after = LocalIndex(home, exact)
    again = after.search(query, k=5, access=EVERYONE).hits
    assert [h.passage for h in again] == [h.passage for h in hits]
    assert [s.kind for s in after.stats().segments] == ["exact"]


def test_a_rebuild_under_another_embedder_embeds_the_stored_texts(home):
    with IndexWriter(home, SETTINGS) as writer:
        writer.upsert(random_delta(["unflushed"]))
    old = LocalIndex(home, SETTINGS)
    rebuild(home, NEW, embed=embed)
    new = LocalIndex(home, NEW)
    (hit,) = new.search(embed(["text of c"])[0], k=1, access=EVERYONE).hits
    assert (hit.passage.document_id, round(hit.score, 5)) == ("c", 1.0)
    assert new.documents().keys() == {"b", "c", "unflushed"}
    with pytest.raises(EmbedderMismatch, match=r"random.*other|other.*random"):
        old.refresh()
    assert old.version().number == 2
    with pytest.raises(EmbedderMismatch):
        IndexWriter(home, SETTINGS)
    rollback(home, 3)
    assert old.refresh()


def test_a_rebuild_never_mixes_spaces(home):
    with pytest.raises(EmbedderMismatch, match="give an embedder"):
        rebuild(home, NEW)
    with pytest.raises(InvalidDelta):
        rebuild(home, NEW, embed=lambda texts: random_vectors(0, len(texts)))
    assert LocalIndex(home, SETTINGS).version().number == 2


def test_a_rebuild_may_be_given_the_whole_content(home):
    content = random_delta(["x", "y"], dim=8)
    rebuild(home, NEW, content=(content, source(9)))
    index = LocalIndex(home, NEW)
    assert index.documents().keys() == {"x", "y"}
    assert index.version().source == source(9)


def test_verify_reads_every_byte_and_probes_the_recall(home):
    report = verify(home)
    assert report.generation == "2-table-v1"
    assert [probe.recall for probe in report.segments] == [1.0]
    victim = next((home / "generations/2-table-v1").rglob("keys.npy"))
    damaged = bytearray(victim.read_bytes())
    damaged[-1] ^= 1
    victim.write_bytes(damaged)
    with pytest.raises(IndexCorrupt, match=r"keys\.npy"):
        verify(home)
    with pytest.raises(IndexNotFound):
        verify(home.parent / "nothing")


def test_verify_sees_what_an_approximate_kind_misses(tmp_path):
    settings = random_settings("ivf_rabitq")
    with IndexWriter(tmp_path / "docs", settings) as writer:
        writer.publish(random_delta([f"d{n}" for n in range(3000)]), source())
    (probe,) = verify(tmp_path / "docs").segments
    assert probe.kind == "ivf_rabitq"
    assert 0 < probe.recall <= 1


def test_stats_say_what_is_on_disk_in_memory_and_dead(home):
    options = WriterOptions(kept_generations=3)
    with IndexWriter(home, SETTINGS, options=options) as writer:
        writer.upsert(random_delta(["new", "b"], seed=4))
        stats = writer.stats()
        assert (stats.documents, stats.passages) == (3, 3)
        assert (stats.tail_documents, stats.tail_passages) == (2, 2)
        assert [s.dead_documents for s in stats.segments] == [1]
        assert stats.kept == ("2-table-v1", "1-table-v0")
        assert all(s.size_bytes > s.passages * 16 * 4 for s in stats.segments)
        assert stats.size_bytes >= sum(s.size_bytes for s in stats.segments)
        writer.flush()
        stats = writer.stats()
        assert (stats.generation, stats.tail_documents) == ("3-table-v1", 0)
