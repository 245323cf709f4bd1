"""A writer that dies in the middle of a change leaves the old state; the next one repairs it."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from by_hand import EVERYONE, delta, passage, settings, source, unit
from milvus_lite.server_manager import server_manager_instance

from vector_index.errors import IndexBusy, NeverPublished
from vector_index.memory import InMemoryIndex
from vector_index.milvus import MilvusIndex, MilvusPlace
from vector_index.milvus.names import collections_of
from vector_index.milvus.store import Store


class Died(Exception):
    pass


class DyingStore:
    """A Store whose writes work until there were enough of them; then none does."""

    def __init__(self, store, writes):
        self._store, self.left = store, writes

    def __getattr__(self, name):
        call = getattr(self._store, name)
        return self._dying(call) if name in ("put", "delete", "create", "drop") else call

    def _dying(self, call):
        def counted(*args, **options):
            if self.left <= 0:
                raise Died
            self.left -= 1
            return call(*args, **options)

        return counted


def dying(place, writes):
    index = MilvusIndex(place, settings())
    store = DyingStore(index._store, writes)
    index._changes._store = store
    return index, store


def hits(index):
    found = index.search(unit(1, 0), k=50, access=EVERYONE, text="text", mode="hybrid").hits
    return [(hit.passage.passage_id, hit.passage.metadata["views"]) for hit in found]


def seen(index):
    return sorted(hits(index)), dict(index.documents())


def change():
    rows = [(passage(key, ordinal=o, views=9), unit(3, o)) for key in ("a", "n") for o in (0, 1)]
    return delta(rows, removed=["b"])


def alive_and_dead(place):
    name = collections_of("docs").passages
    return Store(place).count(name, "since >= 0")


@pytest.fixture
def reference(four):
    index = InMemoryIndex(settings())
    index.publish(four, source())
    return index


def test_wherever_a_publish_dies_the_old_state_is_whole_and_the_same_publish_repairs_it(
    milvus_place, four, reference
):
    MilvusIndex(milvus_place, settings()).publish(four, source())
    old = seen(MilvusIndex(milvus_place, settings()))
    assert old == seen(reference)
    deaths = 0
    while True:
        index, store = dying(milvus_place, deaths)
        try:
            index.publish(change(), source(1))
        except Died:
            assert seen(MilvusIndex(milvus_place, settings())) == old
            deaths += 1
            continue
        break
    assert store.left == 0
    assert deaths > 8
    reference.publish(change(), source(1))
    again = MilvusIndex(milvus_place, settings())
    assert seen(again) == seen(reference)
    assert again.version().number == 2
    # Two changes later nothing is left of all those attempts.
    again.publish(delta([]), source(2))
    again.publish(delta([]), source(3))
    assert alive_and_dead(milvus_place) == again.count()[1] == 6


def test_wherever_the_first_publish_dies_there_is_no_index_yet(milvus_place, four, reference):
    deaths = 0
    while True:
        index, _ = dying(milvus_place, deaths)
        try:
            index.publish(four, source())
        except Died:
            with pytest.raises(NeverPublished):
                MilvusIndex(milvus_place, settings()).version()
            deaths += 1
            continue
        break
    assert deaths > 5
    assert seen(MilvusIndex(milvus_place, settings())) == seen(reference)


@pytest.mark.parametrize("step", ["create_index", "load_collection"])
@pytest.mark.parametrize("collection", ["passages", "documents", "state"])
def test_a_collection_that_was_half_created_is_created_again(
    milvus_place, four, monkeypatch, step, collection
):
    index = MilvusIndex(milvus_place, settings())
    honest = getattr(index._store._client, step)

    def dies(name, *args, **options):
        if name.endswith(collection):
            raise Died
        return honest(name, *args, **options)

    monkeypatch.setattr(index._store._client, step, dies)
    with pytest.raises(Died):
        index.publish(four, source())
    again = MilvusIndex(milvus_place, settings())
    with pytest.raises(NeverPublished):
        again.version()
    again.publish(four, source())
    assert len(hits(again)) == 3


def test_another_change_after_a_death_is_as_if_the_first_had_never_begun(milvus_place, four):
    MilvusIndex(milvus_place, settings()).publish(four, source())
    index, _ = dying(milvus_place, 9)
    with pytest.raises(Died):
        index.publish(change(), source(1))
    again = MilvusIndex(milvus_place, settings())
    again.upsert(delta([(passage("c", views=3), unit(1, 1))]))
    assert seen(again)[0] == [("a#0", 1), ("b#0", 10), ("c#0", 3)]


def interrupted(reader, act):
    """The reader, with something done before each of its searches reaches Milvus."""
    honest = reader._store.nearest

    def nearest(*args, **options):
        act()
        return honest(*args, **options)

    reader._store.nearest = nearest
    return reader


def test_a_reader_that_a_change_overtook_still_has_the_rows_of_the_state_before(milvus_place, four):
    """The switch comes before each search of the reader, and then the next change begins too."""
    writer = MilvusIndex(milvus_place, settings())
    writer.publish(four, source())

    def overtake():
        writer.publish(delta([(passage("a"), unit(0, 1)), (passage("b"), unit(0, 1))]), source(1))
        doomed, _ = dying(milvus_place, 7)
        with pytest.raises(Died):
            doomed.publish(change(), source(2))

    reader = interrupted(MilvusIndex(milvus_place, settings()), overtake)
    found = reader.search(unit(1, 0), k=50, access=EVERYONE)
    assert sorted(hit.passage.document_id for hit in found.hits) == ["a", "b", "c"]
    assert found.version.number == 2
    assert writer.version().number == 3


def test_a_reader_that_is_always_overtaken_twice_gives_up_by_name(milvus_place, four):
    writer = MilvusIndex(milvus_place, settings())
    writer.publish(four, source())

    def overtake():
        for _ in range(2):
            writer.publish(delta([]), source(1))

    reader = interrupted(MilvusIndex(milvus_place, settings()), overtake)
    with pytest.raises(IndexBusy, match="changed during each of 8 attempts"):
        reader.search(unit(1, 0), k=5, access=EVERYONE)


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_with_random_deaths_end_as_in_memory(milvus_place, reference, four, seed):
    chance = random.Random(seed)
    index = MilvusIndex(milvus_place, settings())
    index.publish(four, source())
    for number in range(15):
        names = chance.sample(["a", "b", "c", "d", "e"], 3)
        rows = [
            (passage(name, ordinal=o, views=number), unit(chance.random(), 1))
            for name in names[: chance.randrange(3)]
            for o in range(chance.randrange(1, 3))
        ]
        made = delta(rows, removed=[names[2]])
        for _ in range(chance.randrange(3)):
            doomed, _ = dying(milvus_place, chance.randrange(10))
            try:
                doomed.publish(made, source(number))
            except Died:
                assert seen(index) == seen(reference)
            else:
                reference.publish(made, source(number))
        if number % 2:
            index.upsert(made)
        else:
            index.publish(made, source(number))
        reference.publish(made, source(number))
        assert seen(index) == seen(reference)


_KILLED = """
import os, sys
sys.path[:0] = [{tests!r}, {root!r}]
import importlib.util
spec = importlib.util.spec_from_file_location("crash", {this!r})
crash = importlib.util.module_from_spec(spec)
spec.loader.exec_module(crash)
index, _ = crash.dying(crash.MilvusPlace({uri!r}), {writes})
try:
    index.publish(crash.change(), crash.source(1))
except crash.Died:
    pass
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("writes", "is_published"), [(9, False), (99, True)])
def test_a_killed_process_leaves_the_old_state_or_the_new(
    tmp_path, four, reference, writes, is_published
):
    place = MilvusPlace(str(tmp_path / "milvus.db"))
    MilvusIndex(place, settings()).publish(four, source())
    server_manager_instance.release_server(place.uri)
    here = Path(__file__)
    program = _KILLED.format(
        tests=str(here.parent), root=os.getcwd(), this=str(here), uri=place.uri, writes=writes
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    if is_published:
        reference.publish(change(), source(1))
    again = MilvusIndex(place, settings())
    assert seen(again) == seen(reference)
    again.publish(change(), source(2))
    reference.publish(change(), source(2))
    assert seen(again) == seen(reference)
    server_manager_instance.release_server(place.uri)
