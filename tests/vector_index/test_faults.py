"""Crashes, full disks and damaged files: afterwards the index is one of two known states."""

import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import by_hand
import pytest
from by_hand import (
    EVERYONE,
    delta,
    passage,
    random_delta,
    random_settings,
    source,
    unit,
)

from vector_index.errors import IndexCorrupt, VectorIndexError
from vector_index.local import LocalIndex
from vector_index.options import WriterOptions
from vector_index.writer import IndexWriter

SETTINGS = random_settings()
# A merge is a process of its own: 0.3 s a run that this is not about.
OPTIONS = WriterOptions(merges=False)
CHILD = Path(__file__).parent / "fault_child.py"

# What the index holds after each change of the day that fault_child.py lives through.
BEGIN = {"a": "a-0", "b": "b-0", "c": "c-0"}
STATES = [
    BEGIN,
    {"a": "a-1", "new": "new-1", "b": "b-0", "c": "c-0"},
    {"a": "a-1", "new": "new-1", "c": "c-0"},
    {"a": "a-1", "new": "new-1", "c": "c-0"},
    {"a": "a-1", "c": "c-2"},
    {"d": "d-3", "e": "e-3", "c": "c-2"},
]
PUBLISHED = [STATES[0], STATES[3], STATES[5]]


@pytest.fixture
def prepared(tmp_path):
    LocalIndex(tmp_path / "docs", SETTINGS).publish(random_delta(["a", "b", "c"]), source())
    return tmp_path / "docs"


def words(index):
    """Every passage says `text of <its document>`."""
    hits = index.search(None, k=50, access=EVERYONE, text="text", mode="full_text").hits
    return {hit.passage.document_id for hit in hits}


def live_through(prepared, mode):
    """A folder for every file operation of a day, each with a fault at that operation."""
    runs = prepared.parent / "runs"
    room = str(Path(sys.modules["vector_index"].__file__).parent.parent)
    children = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(prepared), str(runs), mode, str(first), "2"],
            # A killed process leaves its temporary folders.
            env={
                **os.environ,
                "PYTHONPATH": room,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(prepared.parent),
            },
            stderr=subprocess.PIPE,
        )
        for first in (1, 2)
    ]
    for child in children:
        _, errors = child.communicate(timeout=240)
        assert child.returncode == 0, errors.decode()[-2000:]
    found = sorted(runs.iterdir(), key=lambda run: int(run.name))
    assert [run.name for run in found] == [str(number + 1) for number in range(len(found))]
    assert len(found) > 100
    return found


def test_a_writer_killed_at_any_file_operation_leaves_what_it_confirmed_or_the_change_it_was_at(
    prepared,
):
    runs = live_through(prepared, "kill")
    confirmed = set()
    for run in runs:
        count = (run / "acknowledged").stat().st_size
        confirmed.add(count)
        assert not (run / "failed").exists()
        assert dict(LocalIndex(run / "docs", SETTINGS).documents()) in PUBLISHED, run.name
        with IndexWriter(run / "docs", SETTINGS, options=OPTIONS) as writer:
            assert dict(writer.documents()) in STATES[count : count + 2], run.name
            assert words(writer) == writer.documents().keys(), run.name
            if int(run.name) % 5:
                continue
            writer.upsert(random_delta(["after"], seed=9))
            writer.flush()
            assert not list((run / "docs/generations").glob(".*"))
        assert "after" in LocalIndex(run / "docs", SETTINGS).documents()
    assert confirmed == {0, 1, 2, 3, 4, 5}


def test_a_full_disk_at_any_file_operation_is_a_named_error_and_the_change_can_be_made_again(
    prepared,
):
    for run in live_through(prepared, "full"):
        assert not (run / "failed").exists(), (run.name, (run / "failed").read_text())
        reader = LocalIndex(run / "docs", SETTINGS)
        assert dict(reader.documents()) == STATES[-1], run.name
        assert words(reader) == STATES[-1].keys(), run.name
        with IndexWriter(run / "docs", SETTINGS, options=OPTIONS) as writer:
            assert dict(writer.documents()) == STATES[-1], run.name
            assert writer.version().source == source(1)


@pytest.mark.parametrize("largest_bytes", [0, 1, 64, 150, 300, 500, 1000, 2000, 4000])
def test_a_file_that_cannot_grow_is_a_named_error_also_from_native_code(prepared, largest_bytes):
    """FAISS, Arrow and tantivy write past Python: the kernel itself refuses them here."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        error = pool.apply(_publish_within, (prepared, largest_bytes))
    assert error in ("WriteFailed", "FullTextFailed", "" if largest_bytes else "?")
    reader = LocalIndex(prepared, SETTINGS)
    expected = {"a", "b", "c"} if error else {"a", "b", "c", "d"}
    assert reader.documents().keys() == words(reader) == expected
    LocalIndex(prepared, SETTINGS).publish(random_delta(["after"]), source(2))


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "hnsw", "ivf_rabitq"])
def test_vectors_that_do_not_fit_on_the_disk_are_a_named_error(tmp_path, kind):
    """A file larger than FAISS's buffer fails within FAISS, with an error of its own."""
    settings = random_settings(kind)
    LocalIndex(tmp_path / "docs", settings).publish(random_delta(["a"]), source())
    many = [f"doc-{number}" for number in range(3000)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        error = pool.apply(_publish_within, (tmp_path / "docs", 20_000, settings, many))
    assert error == "WriteFailed"
    assert LocalIndex(tmp_path / "docs", settings).documents().keys() == {"a"}


def _publish_within(home, largest_bytes, settings=SETTINGS, ids=("d",)):
    index = LocalIndex(home, settings)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, hard))
    try:
        index.publish(random_delta(list(ids), seed=1), source(1))
    except VectorIndexError as exc:
        return type(exc).__name__
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return ""


def test_a_thousand_damaged_files_are_all_found_before_serving(prepared, tmp_path):
    reader = LocalIndex(prepared, SETTINGS)
    LocalIndex(prepared, SETTINGS).publish(random_delta(["b", "d"], seed=1), source(1))
    (tmp_path / "work").mkdir()
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        jobs = [(prepared, tmp_path / "work" / str(n), seed) for n, seed in enumerate((1, 2))]
        missed = pool.starmap(_damage_many, jobs)
    assert missed == [[], []]
    # The reader that held the older generation all along still answers from it.
    assert dict(reader.documents()) == BEGIN


def _damage_many(prepared, work, seed):
    """500 damaged copies of a published index, each offered to a reader of the one before.

    Returns those where the reader did not refuse, or did not go on serving.
    """
    chance = random.Random(seed)
    missed = []
    generations = [work / "docs/generations" / n for n in ("1-table-v0", "2-table-v1")]
    shutil.copytree(prepared, work / "docs")
    current = work / "docs/CURRENT"
    names = sorted(p.relative_to(generations[1]) for p in _files(generations[1]))
    originals = {name: (generations[1] / name).read_bytes() for name in names}
    for number in range(500):
        current.write_text(generations[0].name)
        reader = LocalIndex(work / "docs", SETTINGS)
        name = names[number % len(names)]
        what, content = _damage(chance, name, originals, generations[0])
        if content is None:
            (generations[1] / name).unlink()
        else:
            (generations[1] / name).write_bytes(content)
        current.write_text(generations[1].name)
        try:
            reader.refresh()
            missed.append((what, str(name), "refresh"))
        except IndexCorrupt:
            if dict(reader.documents()) != BEGIN:
                missed.append((what, str(name), "serving"))
        try:
            LocalIndex(work / "docs", SETTINGS)
            missed.append((what, str(name), "open"))
        except IndexCorrupt:
            pass
        (generations[1] / name).write_bytes(originals[name])
    reader.refresh()
    return missed


def _damage(chance, name, originals, older):
    """A kind of damage and the file's content after it; None is a file that is gone."""
    content = bytearray(originals[name])
    kind = chance.choice(["flip", "flip", "flip", "cut", "longer", "gone", "mixed", "swapped"])
    if kind == "cut":
        return kind, bytes(content[: chance.randrange(len(content))])
    if kind == "longer":
        return kind, bytes(content) + b"\0"
    if kind == "gone":
        return kind, None
    if kind == "mixed" and (older / name).is_file():
        other = (older / name).read_bytes()
        if other != bytes(content):
            return kind, other
    if kind == "swapped":
        other = originals[chance.choice(sorted(originals))]
        if other != bytes(content):
            return kind, other
    bit = chance.randrange(len(content) * 8)
    content[bit // 8] ^= 1 << bit % 8
    return "flip", bytes(content)


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("text", ["", "nonsense", "9-table-v9", "../docs", "\x00", "1-table-v0/.."])
def test_a_damaged_current_is_found(prepared, text):
    (prepared / "CURRENT").write_text(text)
    with pytest.raises(IndexCorrupt, match="CURRENT"):
        LocalIndex(prepared, SETTINGS)


def test_two_readers_through_500_publishes_answer_each_from_exactly_one_generation(tmp_path):
    home = tmp_path / "docs"
    settings = by_hand.settings()
    ids = [f"d{number}" for number in range(12)]

    def everything(version):
        rows = [(passage(key, views=version), unit(1, number)) for number, key in enumerate(ids)]
        return delta(rows)

    writer = LocalIndex(home, settings)
    writer.publish(everything(0), source(0))
    problems, done = [], threading.Event()
    answers = [0, 0]

    def read(number):
        reader = LocalIndex(home, settings)
        while not done.is_set():
            reader.refresh()
            result = reader.search(unit(1, 3), k=20, access=EVERYONE)
            views = {hit.passage.metadata["views"] for hit in result.hits}
            if views != {result.version.source.version} or len(result.hits) != len(ids):
                problems.append((views, result.version))
            answers[number] += 1
            time.sleep(0.002)

    threads = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for version in range(1, 501):
        writer.publish(everything(version), source(version))
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert min(answers) > 100
    assert writer.version().number == 501
