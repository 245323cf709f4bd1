"""One published generation on the disk, opened for searching: immutable, so it needs no lock."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vector_index.deaths import Deaths
from vector_index.disk import inode_of
from vector_index.errors import (
    IndexCorrupt,
    IndexNotFound,
)
from vector_index.fulltext import TantivyText, open_fulltext
from vector_index.layer import Layer, Placing
from vector_index.manifest import (
    FileEntry,
    IndexSettings,
    Manifest,
    check_settings,
    read_manifest,
    verify_files,
)
from vector_index.segment import Segment, immutable_files, open_segment, read_tombstones
from vector_index.view import View

CURRENT = "CURRENT"
GENERATIONS = "generations"
FULLTEXT = "fulltext"


@dataclass(frozen=True, slots=True)
class Generation:
    """A snapshot of an index. Open it with `open_generation`.

    inodes: of the manifest's files. It keeps those of segments and full text open, so that no
    other file has them, also after its folder was pruned.
    """

    manifest: Manifest
    layers: tuple[Layer, ...]
    text: TantivyText
    folder: Path
    inodes: Mapping[str, tuple[int, int] | None]

    def view(self) -> View:
        """The generation as a reader searches it."""
        return View(self.manifest.settings, self.layers, self.text, self.manifest.version())

    def with_own_deaths(self) -> "Generation":
        """The same for a writer, whose failed changes are then not recorded in this one."""
        layers = tuple(replace(layer, deaths=layer.deaths.copy()) for layer in self.layers)
        return replace(self, layers=layers)


def read_current(home: Path) -> str | None:
    """The name of the live generation, None before the first publish."""
    try:
        return (home / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as exc:
        raise IndexCorrupt(f"{CURRENT} does not hold a generation's name: {exc}") from exc


def open_current(
    home: Path,
    settings: IndexSettings | None,
    *,
    known: Generation | None = None,
    place: Placing | None = None,
) -> Generation | None:
    """The live generation, checked; `known` itself when it is that one; None when none is.

    settings: what the index must have been built with; None takes it as it is. place: as
    `open_generation`. Raises IndexCorrupt, EmbedderMismatch or SettingsMismatch.
    """
    name = read_current(home)
    if name is None or (known is not None and known.manifest.generation == name):
        return known if name is not None else None
    generation = _open_named(home, name, known, place)
    if settings is not None:
        check_settings(
            generation.manifest.settings,
            settings,
            fix=f"run `headrace index rebuild {settings.name}`",
        )
    return generation


def _open_named(
    home: Path, name: str, known: Generation | None, place: Placing | None
) -> Generation:
    """The named generation, or a newer one where that was pruned while it was opened."""
    while True:
        found: Exception
        if "/" in name or "\0" in name or not is_generation(home / GENERATIONS / name):
            found = IndexCorrupt(f"{CURRENT} names {name!r}, which is not among the generations")
        else:
            try:
                return open_generation(home / GENERATIONS / name, known=known, place=place)
            except (IndexCorrupt, OSError) as exc:
                found = exc
        newer = read_current(home)
        if newer is None or newer == name:
            raise found
        name = newer


def open_generation(
    folder: Path, *, known: Generation | None = None, place: Placing | None = None
) -> Generation:
    """Opens a generation after checking every file against its manifest.

    known: an opened generation; segments whose files are the same inodes are taken over from it
    as they are. place: where segments are scanned, None for the CPU. Raises IndexCorrupt naming
    the file that differs.
    """
    manifest = read_manifest(folder)
    if manifest.generation != folder.name:
        raise IndexCorrupt(f"{folder.name}: its manifest is that of {manifest.generation}")
    trusted = {} if known is None else same_files(known, folder)
    verify_files(manifest, folder, known=trusted)
    shared = {} if known is None else _shared_segments(known, trusted)
    try:
        segments = [
            shared.get(entry.id) or open_segment(folder, entry, manifest.settings)
            for entry in manifest.segments
        ]
        deaths = [_deaths(folder, segment, manifest.sequence) for segment in segments]
    except (OSError, ValueError, RuntimeError) as exc:
        raise IndexCorrupt(f"{folder.name}: cannot be opened: {exc}") from exc
    layers = tuple(
        Layer(segment, dead, None if place is None else place(segment.id, segment.vectors))
        for segment, dead in zip(segments, deaths, strict=True)
    )
    text = open_text(folder, manifest.settings)
    return Generation(manifest, layers, text, folder, inodes_of(manifest, folder))


def open_text(folder: Path, settings: IndexSettings) -> TantivyText:
    """The full text of a generation. Raises IndexCorrupt."""
    return open_fulltext(
        folder / FULLTEXT, has_tenant=settings.has_tenant, has_groups=settings.has_groups
    )


def inodes_of(manifest: Manifest, folder: Path) -> dict[str, tuple[int, int] | None]:
    """The inode of each file that the manifest names."""
    return {name: inode_of(folder / name) for name in manifest.files}


def same_files(known: Generation, folder: Path) -> dict[str, FileEntry]:
    """The files of a generation that the folder holds too: one inode, two names."""
    return {
        name: entry
        for name, entry in known.manifest.files.items()
        if (inode := inode_of(folder / name)) is not None and inode == known.inodes[name]
    }


def published(home: Path) -> Manifest | None:
    """The manifest of the live generation, or None before the first publish.

    Reads nothing else, so it is quick and says nothing about the files. Raises IndexCorrupt.
    """
    name = read_current(home)
    return None if name is None else read_manifest(home / GENERATIONS / name)


def kept_generations(home: Path) -> list[Path]:
    """The folders of complete generations, newest first."""
    folder = home / GENERATIONS
    found = [entry for entry in folder.iterdir() if is_generation(entry)] if folder.is_dir() else []
    return sorted(found, key=lambda entry: -number_of(entry.name))


def number_of(name: str) -> int:
    """The number that a generation's name begins with."""
    return int(name.split("-", 1)[0])


def is_generation(entry: Path) -> bool:
    """Whether the folder is named as a generation is; drafts are not."""
    return entry.name.split("-", 1)[0].isdecimal() and entry.is_dir()


def not_found_in(home: Path) -> IndexNotFound:
    """The error of a folder that holds no index."""
    return IndexNotFound(f"there is no index in {home}; publish to it first")


def _shared_segments(known: Generation, trusted: Mapping[str, FileEntry]) -> dict[str, Segment]:
    """Segments of `known` all of whose files another generation shares."""
    return {
        layer.segment.id: layer.segment
        for layer in known.layers
        if immutable_files(known.manifest, layer.segment.id).keys() <= trusted.keys()
    }


def _deaths(folder: Path, segment: Segment, sequence: int) -> Deaths:
    at = np.zeros(segment.documents.num_rows, np.int64)
    dead = read_tombstones(folder, segment.id)
    at[dead] = max(sequence, 1)
    return Deaths(at, rows=segment.count_rows(dead))
