"""An index on the local disk: generations published by one writer, read by any process."""

import dataclasses
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import (
    EmbedderMismatch,
    IndexBusy,
    IndexCorrupt,
    NeverPublished,
    SettingsMismatch,
)
from vector_index.filters import Filter
from vector_index.generation import Generation, open_generation
from vector_index.manifest import IndexSettings, Manifest, read_manifest, verify_files
from vector_index.passages import (
    Access,
    IndexDelta,
    IndexVersion,
    MetadataType,
    SearchResult,
    SourceVersion,
)
from vector_index.publish import CURRENT, GENERATIONS, publish_delta
from vector_index.query import EQUAL, LegWeights, QueryType, Wanted

_LOCK = "LOCK"


def published(home: Path) -> Manifest | None:
    """The manifest of the live generation, or None before the first publish.

    Reads nothing else, so it is quick and says nothing about the files. Raises IndexCorrupt.
    """
    name = _current(home)
    return None if name is None else read_manifest(home / GENERATIONS / name)


def verified(home: Path) -> Manifest | None:
    """As `published`, after hashing every file. Raises IndexCorrupt naming one that differs."""
    manifest = published(home)
    return None if manifest is None else verified_generation(home, manifest)


def verified_generation(home: Path, manifest: Manifest) -> Manifest:
    """The manifest, after hashing every file it names. Raises IndexCorrupt."""
    verify_files(manifest, home / GENERATIONS / manifest.generation)
    return manifest


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """Holds the writer's lock of an index. Raises IndexBusy at once when another has it."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise IndexBusy(
            f"another process is publishing to index {home.name!r}; try again later"
        ) from exc
    finally:
        os.close(descriptor)


class LocalIndex:
    """A VectorIndex over `<home>/CURRENT` and `<home>/generations`.

    Searches use the generation opened last; `refresh` moves to a newer published one.
    """

    def __init__(self, home: Path, settings: IndexSettings) -> None:
        self._home = home
        self._settings = settings
        self._live: Generation | None = None
        self.refresh()

    @property
    def metadata_columns(self) -> Mapping[str, MetadataType]:
        return self._settings.metadata_columns

    def version(self) -> IndexVersion:
        return self._generation().manifest.version()

    def search(
        self,
        vector: NDArray[np.float32] | None,
        *,
        k: int,
        access: Access,
        where: Filter | None = None,
        text: str | None = None,
        mode: QueryType = "ann",
        weights: LegWeights = EQUAL,
    ) -> SearchResult:
        wanted = Wanted(vector, text, mode, k, weights)
        return self._generation().search(wanted, access=access, where=where)

    def documents(self) -> Mapping[str, str]:
        return {} if self._live is None else self._live.documents()

    def vectors_by_text(self, document_ids: frozenset[str]) -> dict[str, NDArray[np.float32]]:
        """Text hash to vector of all that is indexed for these documents."""
        return {} if self._live is None else self._live.vectors_by_text(document_ids)

    def publish(self, delta: IndexDelta, source: SourceVersion) -> IndexVersion:
        with writing(self._home):
            self.refresh()
            publish_delta(self._home, self._settings, self._live, delta, source)
            self.refresh()
        return self.version()

    def refresh(self) -> bool:
        """Opens the generation that CURRENT names, if it is another one; says whether it was.

        Raises IndexCorrupt when the new one is damaged, EmbedderMismatch or SettingsMismatch
        when it was built otherwise than configured; the old one then keeps serving.
        """
        name = _current(self._home)
        if name is None or (self._live is not None and self._live.manifest.generation == name):
            return False
        generation = self._open(name)
        self._check(generation.manifest.settings)
        self._live = generation
        return True

    def _open(self, name: str) -> Generation:
        """The named generation, or a newer one where that was pruned while it was opened."""
        while True:
            try:
                return open_generation(self._home / GENERATIONS / name)
            except (IndexCorrupt, OSError):
                newer = _current(self._home)
                if newer is None or newer == name:
                    raise
                name = newer

    def _check(self, built: IndexSettings) -> None:
        old, new = built.embedder, self._settings.embedder
        fix = f"remove {self._home} and run `headrace index sync {self._settings.name}` to rebuild"
        if old != new:
            raise EmbedderMismatch(
                f"index {built.name!r} was built by {old.id} (dim {old.dim}, weights "
                f"{old.weights_sha256[:12]}), now asked to use {new.id} (dim {new.dim}, weights "
                f"{new.weights_sha256[:12]}); {fix}"
            )
        for field in dataclasses.fields(built):
            was, is_now = getattr(built, field.name), getattr(self._settings, field.name)
            if was != is_now:
                raise SettingsMismatch(
                    f"index {built.name!r} was built with {field.name} {was!r}, "
                    f"now asked for {is_now!r}; {fix}"
                )

    def _generation(self) -> Generation:
        if self._live is None:
            raise NeverPublished(self._settings.name)
        return self._live


def _current(home: Path) -> str | None:
    """The live generation's name, None before the first publish."""
    try:
        return (home / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
