"""A process that syncs in a loop is killed at any moment; what it leaves is one table version.

Rows that cannot be indexed are among those it syncs: they are in quarantine, whoever is killed.

HEADRACE_ROUNDS makes it longer (`make soak`), HEADRACE_SEED repeats the pauses.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from worlds import AsideWorld, rows

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("HEADRACE_ROUNDS", "200"))


def commit(world, chance, number):
    """One to three commits, so that a sync may find itself between them."""
    keys = [str(n) for n in range(30)]
    for step in range(chance.choice((1, 1, 2, 3))):
        body = f"round {number} step {step} with more words than one passage takes in"
        world.upsert(rows(chance.sample(keys, 8), body=body))
        if chance.random() < 0.1:
            world.upsert(rows(chance.sample(keys, 2), body=f"poison of round {number}"))
        if chance.random() < 0.3:
            world.delta.delete(f"id = '{chance.choice(keys)}'")


def acknowledged(world):
    """The newest version that a child has said to be published; half a line says nothing."""
    file = world.folder / "acknowledged"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return max(map(int, lines), default=-1)


def test_a_killed_sync_leaves_one_whole_version_and_loses_none_that_it_acknowledged(tmp_path):
    number = int(os.environ.get("HEADRACE_SEED") or random.randrange(2**32))
    print(f"HEADRACE_SEED={number}")
    chance = random.Random(number)
    world = AsideWorld(tmp_path)
    nursery = subprocess.Popen(
        [sys.executable, HERE / "kill_child.py", tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"},
    )  # fmt: skip
    published, longest_s, before = 0, 0.25, -1
    try:
        for one in range(ROUNDS):
            nursery.stdin.write(f"{one}\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            if chance.random() < 0.8:
                commit(world, chance, one)
            time.sleep(chance.uniform(0, longest_s))
            os.kill(child, signal.SIGKILL)
            version = _check(world)
            # Whatever the machine, about every other child lives to publish something.
            longest_s = longest_s * 1.4 if version == before else max(longest_s / 1.4, 0.05)
            published += version != before
            before = version
        assert not (tmp_path / "failed").exists(), (tmp_path / "failed").read_text()
    finally:
        nursery.stdin.close()
        nursery.stdout.close()
        nursery.wait(60)
    print(f"of {ROUNDS} killed processes {published} had published; the last ones had up to "
          f"{longest_s:.2f} s")  # fmt: skip
    assert ROUNDS // 10 < published < ROUNDS, "kills before or after every sync prove nothing"
    world.index.refresh()
    world.append(rows(["last"]))
    world.sync()
    world.check()


def _check(world):
    """The version that is published, having found the index to be exactly that version."""
    least = acknowledged(world)
    world.index = world.open_index()
    if least < 0 and not (world.folder / "index" / "CURRENT").exists():
        return -1
    version = world.index.version().source.version
    assert version >= least
    assert world.indexed() == world.expected(version)
    assert sorted(world.index.documents()) == sorted(world.keys(version))
    # Those that are not indexed are in quarantine: no row is in neither.
    assert world.held().keys() >= world.poisoned(version)
    return version
