"""Looking back and going back, on an index with two kept generations."""

import importlib.util
from pathlib import Path

import pytest

from vector_index.errors import IndexBusy, IndexCorrupt, IndexNotFound
from vector_index.local import LocalIndex, published, writing
from vector_index.operations import history, rollback, verify

_spec = importlib.util.spec_from_file_location("by_hand", Path(__file__).parent / "conftest.py")
by_hand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(by_hand)
EVERYONE, delta, passage, settings, source, unit = (
    by_hand.EVERYONE, by_hand.delta, by_hand.passage, by_hand.settings, by_hand.source,
    by_hand.unit,
)  # fmt: skip


@pytest.fixture
def home(four, tmp_path):
    """Three publishes, of which the last two are kept."""
    index = LocalIndex(tmp_path / "docs", settings())
    index.publish(four, source(0))
    index.publish(delta([(passage("d"), unit(0, 1))]), source(1))
    index.publish(delta([], removed=["d"]), source(2))
    return tmp_path / "docs"


def documents(home):
    return set(LocalIndex(home, settings()).documents())


def test_history_lists_what_is_kept_newest_first(home):
    kept = history(home)
    assert [(m.number, m.source.version, m.documents) for m in kept] == [(3, 2, 4), (2, 1, 5)]
    assert published(home) == kept[0]


def test_going_back_is_followed_by_readers_and_forward_by_the_next_publish(home):
    reader = LocalIndex(home, settings())
    assert rollback(home, 2).source.version == 1
    assert reader.refresh()
    assert "d" in reader.documents()
    reader.publish(delta([(passage("e"), unit(0, 1))]), source(3))
    assert documents(home) == {"a", "b", "c", "d", "e", "secret"}
    assert history(home)[0].number == 4


def test_a_generation_that_is_not_kept_is_refused_with_those_that_are(home):
    with pytest.raises(IndexNotFound, match="no generation 1 of 'docs'; kept: 2, 3"):
        rollback(home, 1)


def test_a_damaged_generation_is_found_and_never_gone_back_to(home):
    old = history(home)[1]
    file = next((home / "generations" / old.generation).glob("segments/*/index.faiss"))
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IndexCorrupt, match=old.generation):
        verify(home)
    with pytest.raises(IndexCorrupt, match=old.generation):
        rollback(home, 2)
    assert published(home) == history(home)[0]


def test_nobody_goes_back_under_a_writer(home):
    with writing(home), pytest.raises(IndexBusy, match="'docs'"):
        rollback(home, 2)
