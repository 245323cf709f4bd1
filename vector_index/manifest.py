"""manifest.json: what a generation holds and what it was made from."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from vector_index.disk import sha256_of, write_bytes
from vector_index.errors import EmbedderMismatch, IndexCorrupt, SettingsMismatch
from vector_index.kinds import KindName
from vector_index.passages import (
    Access,
    EmbedderIdentity,
    IndexVersion,
    MetadataType,
    Passage,
    SourceVersion,
    may_see,
)

MANIFEST = "manifest.json"
CHECKSUM = "manifest.json.sha256"


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What an index is made of; a change of any of these but memory_bytes needs a rebuild.

    kind: how segments store their vectors; `auto` decides for each by its size.
    chunking: the splitter's parameters by name, recorded as they are.
    has_tenant, has_groups: whether rows are restricted by tenant and by group.
    memory_bytes: what `auto` may use for vectors, None for no limit; holds for new segments.
    """

    name: str
    kind: KindName | Literal["auto"]
    embedder: EmbedderIdentity
    chunking: Mapping[str, int]
    metadata_columns: Mapping[str, MetadataType]
    has_tenant: bool
    has_groups: bool
    metric: Literal["cosine"] = "cosine"
    memory_bytes: int | None = None

    def may_see(self, passage: Passage, access: Access) -> bool:
        """Whether the asker may see the passage, in an index of these settings."""
        return may_see(passage, access, has_tenant=self.has_tenant, has_groups=self.has_groups)


def check_settings(built: IndexSettings, asked: IndexSettings, *, fix: str) -> None:
    """Raises EmbedderMismatch or SettingsMismatch, naming both, unless the two are equal.

    The memory budget may differ: each segment says for itself how it is stored. fix: what to do.
    """
    old, new = built.embedder, asked.embedder
    if old != new:
        raise EmbedderMismatch(
            f"index {built.name!r} was built by {old.id} (dim {old.dim}, weights "
            f"{old.weights_sha256[:12]}), now asked to use {new.id} (dim {new.dim}, weights "
            f"{new.weights_sha256[:12]}); {fix}"
        )
    for field in dataclasses.fields(built):
        was, is_now = getattr(built, field.name), getattr(asked, field.name)
        if was != is_now and field.name != "memory_bytes":
            raise SettingsMismatch(
                f"index {built.name!r} was built with {field.name} {was!r}, "
                f"now asked for {is_now!r}; {fix}"
            )


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One immutable segment of the generation; `deleted` counts its tombstoned documents.

    kind: how its vectors are stored; small segments may be simpler than the index's kind.
    """

    id: str
    kind: KindName
    passages: int
    documents: int
    deleted: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the generation, by path relative to its folder."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about a generation but its bytes.

    sequence: the number of the last change it contains; the writer's log holds newer ones.
    """

    format_version: Literal[2]
    number: int
    parent: str | None
    created_at: datetime
    settings: IndexSettings
    source: SourceVersion
    sequence: int
    segments: tuple[SegmentEntry, ...]
    passages: int
    documents: int
    files: Mapping[str, FileEntry]

    @property
    def generation(self) -> str:
        """The generation's folder name: `<n>-<table id>-v<version>`."""
        return f"{self.number}-{self.source.table_id}-v{self.source.version}"

    def version(self) -> IndexVersion:
        """What an answer says it was built from."""
        return IndexVersion(
            index=self.settings.name,
            generation=self.generation,
            number=self.number,
            created_at=self.created_at,
            source=self.source,
            sequence=self.sequence,
        )


_ADAPTER = TypeAdapter(Manifest)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes manifest.json and its checksum, in the form `sha256sum -c` reads."""
    write_bytes(folder / MANIFEST, _ADAPTER.dump_json(manifest, indent=1))
    line = f"{sha256_of(folder / MANIFEST)}  {MANIFEST}\n"
    write_bytes(folder / CHECKSUM, line.encode())


def read_manifest(folder: Path) -> Manifest:
    """Reads manifest.json. Raises IndexCorrupt when it is missing, damaged or of another format."""
    try:
        text = (folder / MANIFEST).read_bytes()
        expected = (folder / CHECKSUM).read_bytes()
    except OSError as exc:
        raise IndexCorrupt(
            f"{folder.name}: {MANIFEST} cannot be read ({exc}); where an older version wrote it, "
            "remove the index's folder and sync again"
        ) from exc
    if expected != f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode():
        raise IndexCorrupt(f"{folder.name}: {MANIFEST} differs from its checksum in {CHECKSUM}")
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as exc:
        raise IndexCorrupt(
            f"{folder.name}: {MANIFEST} is not of this version's format ({exc}); remove the "
            "index's folder and sync again"
        ) from exc


def file_entry(path: Path) -> FileEntry:
    """Checksum and size of a written file."""
    return FileEntry(sha256_of(path), path.stat().st_size)


def verify_files(manifest: Manifest, folder: Path, *, known: Mapping[str, FileEntry]) -> None:
    """Raises IndexCorrupt naming the first file whose size or SHA-256 differs.

    known: files that need no second look, because they were checked and are the same inode.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise IndexCorrupt(f"{folder.name}: {name} is missing")
        if (size := path.stat().st_size) != entry.size_bytes:
            raise IndexCorrupt(f"{folder.name}: {name} has {size} bytes, not {entry.size_bytes}")
        if known.get(name) == entry:
            continue
        if (found := sha256_of(path)) != entry.sha256:
            raise IndexCorrupt(f"{folder.name}: {name} has sha256 {found}, not {entry.sha256}")
