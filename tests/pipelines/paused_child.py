"""A process that begins to sync a world, and stops in the middle of it: a script, not a test.

    python paused_child.py <folder of the world>

It has read the table and holds the lease when it stops itself, as SIGSTOP, a debugger or a
virtual machine that is moved would. Once it goes on, it prints what came of its sync.
"""

import os
import signal
import sys
from pathlib import Path

from worlds import CountingEmbedder, World

from vector_index.errors import VectorIndexError


class Pausing(CountingEmbedder):
    """Stops the whole process instead of embedding the first time."""

    is_paused = False

    def embed_passages(self, texts, *, on_progress=None):
        if not self.is_paused:
            self.is_paused = True
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().embed_passages(texts, on_progress=on_progress)


def main(folder):
    world = World(folder, keys=None, embedder=Pausing())
    world.open()
    try:
        print(world.sync().version.generation, flush=True)
    except VectorIndexError as exc:
        print(type(exc).__name__, exc, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
