"""Forks processes that sync one world in a loop until they are killed: a script, not a test.

    python kill_child.py <folder of the world>

A number on standard input asks for the next process; its id is answered on standard output. Each
writes the table version that a sync has acknowledged to `<folder>/acknowledged`, and any
error that is no part of the game to `<folder>/failed`. Everything is imported once, and nothing
of deltalake is used before the fork, which its threads would not survive.
"""

import os
import sys
import traceback
from pathlib import Path

from worlds import AsideWorld

import pipelines.parts
import pipelines.sync
from vector_index.errors import IndexBusy


def live(folder):
    world = AsideWorld(folder, keys=None)
    world.open()
    file = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while True:
        try:
            report = world.sync()
        except IndexBusy:
            continue
        os.write(file, f"{report.version.source.version}\n".encode())


def main(folder):
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            if int(line) % 2:  # every second one stages what it changes, a few passages a part
                pipelines.sync.LARGE_DOCUMENTS, pipelines.sync.PART_PASSAGES = 2, 4
                pipelines.parts._BATCH_DOCUMENTS = 2
            try:
                live(folder)
            except BaseException:  # noqa: BLE001 - the parent reads what it was
                (folder / "failed").write_text(traceback.format_exc())
            os._exit(1)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
