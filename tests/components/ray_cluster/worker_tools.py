"""What a worker of the cluster cuts and embeds with; a module that it can import."""

import os
import signal
from pathlib import Path

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.chunking import token_chunker


class MarkingEmbedder(HashingEmbedder):
    """Leaves a file behind for each that is built, dies once if told to, and refuses poison."""

    def __init__(self, folder: Path):
        super().__init__(16)
        self.folder = folder
        (folder / f"built-{os.getpid()}").touch()

    def embed_passages(self, texts, *, on_progress=None):
        if any("poison" in text for text in texts):
            raise RuntimeError("cannot")
        if (self.folder / "broken").exists():
            raise RuntimeError("no texts today")
        if (self.folder / "deadly").exists():
            (self.folder / "deadly").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "texts").open("a") as file:
            file.write(f"{len(texts)}\n")
        return super().embed_passages(texts, on_progress=on_progress)


def tools(folder):
    return MarkingEmbedder(folder), token_chunker(None, 8)
