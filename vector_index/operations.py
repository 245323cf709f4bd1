"""What can be done to an index on disk without its embedder: look back, go back, check."""

from pathlib import Path

from vector_index.disk import replace_text
from vector_index.errors import IndexNotFound
from vector_index.local import verified_generation, writing
from vector_index.manifest import Manifest, read_manifest
from vector_index.publish import CURRENT, GENERATIONS, kept_generations


def history(home: Path) -> list[Manifest]:
    """The kept generations, newest first. Raises IndexCorrupt."""
    return [read_manifest(folder) for folder in kept_generations(home / GENERATIONS)]


def verify(home: Path) -> list[Manifest]:
    """The kept generations after hashing every file. Raises IndexCorrupt naming a wrong one."""
    return [verified_generation(home, manifest) for manifest in history(home)]


def rollback(home: Path, number: int) -> Manifest:
    """Makes a kept generation live again, after checking its files; readers follow as ever.

    The next sync starts from it, and brings the index back to the table. Raises IndexNotFound
    listing the kept ones, IndexCorrupt, or IndexBusy.
    """
    with writing(home):
        found = {manifest.number: manifest for manifest in history(home)}
        if number not in found:
            kept = ", ".join(str(known) for known in sorted(found)) or "none"
            raise IndexNotFound(f"there is no generation {number} of {home.name!r}; kept: {kept}")
        manifest = verified_generation(home, found[number])
        replace_text(home / CURRENT, manifest.generation)
    return manifest
