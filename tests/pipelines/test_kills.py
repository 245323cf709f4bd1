"""A process that syncs in a loop is killed at any moment; what it leaves is one table version.

HEADRACE_ROUNDS makes it longer (`make soak`), HEADRACE_SEED repeats the pauses.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from deltalake import DeltaTable
from worlds import World, rows

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("HEADRACE_ROUNDS", "50"))


def commit(world, chance, number):
    """One to three commits, so that a sync may find itself between them."""
    keys = [str(n) for n in range(30)]
    for step in range(chance.randint(1, 3)):
        body = f"round {number} step {step} with more words than one passage takes in"
        world.upsert(rows(chance.sample(keys, 8), body=body))
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
    world = World(tmp_path)
    nursery = subprocess.Popen(
        [sys.executable, HERE / "kill_child.py", tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"},
    )  # fmt: skip
    versions = set()
    try:
        for one in range(ROUNDS):
            nursery.stdin.write(f"{one}\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            if chance.random() < 0.8:
                commit(world, chance, one)
            time.sleep(chance.uniform(0, 0.25))
            os.kill(child, signal.SIGKILL)
            versions.add(_check(world))
        assert not (tmp_path / "failed").exists(), (tmp_path / "failed").read_text()
    finally:
        nursery.stdin.close()
        nursery.stdout.close()
        nursery.wait(60)
    assert len(versions) > ROUNDS // 10, "the children have hardly published anything"
    world.index.refresh()
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
    assert len(world.index.documents()) == DeltaTable(str(world.table), version=version).count()
    return version
