"""The generations that are still on the disk, and the way back to one of them."""

from dataclasses import dataclass
from pathlib import Path

from vector_index import disk
from vector_index.errors import GenerationNotFound, IndexCorrupt
from vector_index.generation import (
    CURRENT,
    GENERATIONS,
    kept_generations,
    open_generation,
    read_current,
)
from vector_index.lock import WriterLock
from vector_index.logs import has_changes
from vector_index.manifest import Manifest, read_manifest
from vector_index.options import WriterOptions
from vector_index.writer import IndexWriter


@dataclass(frozen=True, slots=True)
class Kept:
    """A generation on the disk. is_live: whether CURRENT names it.

    manifest: None where it cannot be read, and then `problem` says why.
    """

    generation: str
    is_live: bool
    manifest: Manifest | None
    problem: str | None = None


def history(home: Path) -> list[Kept]:
    """The kept generations, newest first, damaged ones too; empty where there is no index."""
    live = read_current(home)
    found = [_kept(folder, folder.name == live) for folder in kept_generations(home)]
    # A folder that is no longer there was pruned meanwhile; it is not damaged.
    return [one for one in found if one.manifest or (home / GENERATIONS / one.generation).is_dir()]


def rollback(home: Path, to: int | str, *, options: WriterOptions | None = None) -> Manifest:
    """Makes a kept generation, by number or name, the live one again; readers follow as ever.

    Unflushed changes are flushed first, so that the way forward stays open too. The target is
    checked before it goes live, whatever settings it was built with; the live one may be damaged.
    The next sync starts from the target, and brings the index back to the table. Raises
    GenerationNotFound with the list of the kept ones, IndexCorrupt, IndexBusy.
    """
    target = _find(home, to)
    open_generation(home / GENERATIONS / target.generation)
    if _is_live_damaged(home):
        _leave_damaged(home, target)
        return target
    with IndexWriter(home, None, options=options) as writer:
        _find(home, target.generation)  # again: it may have been pruned until now
        writer.pin(target.generation)
        writer.flush()
        writer.forget_log()
        disk.replace_text(home / CURRENT, target.generation)
    return target


def _kept(folder: Path, is_live: bool) -> Kept:
    try:
        return Kept(folder.name, is_live, read_manifest(folder))
    except IndexCorrupt as exc:
        return Kept(folder.name, is_live, None, str(exc))


def _find(home: Path, to: int | str) -> Manifest:
    kept = [one.manifest for one in history(home) if one.manifest is not None]
    for manifest in kept:
        if to in (manifest.number, manifest.generation):
            return manifest
    numbers = ", ".join(str(manifest.number) for manifest in reversed(kept)) or "none"
    raise GenerationNotFound(f"there is no generation {to} of {home.name!r}; kept: {numbers}")


def _is_live_damaged(home: Path) -> bool:
    name = read_current(home)
    try:
        if name is not None:
            open_generation(home / GENERATIONS / name)
    except IndexCorrupt:
        return True
    return False


def _leave_damaged(home: Path, target: Manifest) -> None:
    with WriterLock(home, home.name):
        _find(home, target.generation)
        if has_changes(home):
            raise IndexCorrupt(
                f"the live generation of {home.name!r} is damaged, and changes after it wait in "
                f"{home / 'wal'}: going back loses them; move that folder away to go back"
            )
        disk.replace_text(home / CURRENT, target.generation)
