"""Weights on disk: found, checked, and fetched when they are not there."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm_endpoint.catalogue import CATALOGUE, ModelCard, WeightsFile, find_card
from llm_endpoint.download import Progress, fetch
from llm_endpoint.durable import sync_folder
from llm_endpoint.errors import ChecksumMismatch, UnknownModel, WeightsMissing

_MARKER = ".verified.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelSource:
    """`card` is None for a local folder of the operator's own."""

    folder: Path
    card: ModelCard | None


def pull(
    card: ModelCard,
    weights_dir: Path,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Path:
    """The folder `<weights_dir>/<card name>` with every file verified; downloads what is missing.

    Two pulls at once are safe: each writes under names of its own and renames verified files.
    Raises DownloadFailed, ChecksumMismatch.
    """
    folder = weights_dir / card.name
    if _is_verified(card, folder):
        return folder
    wanted = [file for file in card.files if not _is_intact(folder, file)]
    fetch(wanted, folder, on_progress or _ignore)
    _write_marker(card, folder)
    return folder


def verify(card: ModelCard, weights_dir: Path) -> Path:
    """The model's folder after hashing every byte. Raises WeightsMissing, ChecksumMismatch."""
    folder = weights_dir / card.name
    for file in card.files:
        path = folder / file.target
        if not path.is_file():
            raise WeightsMissing(path, card.name)
        actual = sha256_of(path)
        if actual != file.sha256:
            raise ChecksumMismatch(str(path), file.sha256, actual)
    _write_marker(card, folder)
    return folder


def resolve(name_or_folder: str, weights_dir: Path) -> ModelSource:
    """Where a model's files are: a catalogue name first, else a folder on this machine.

    Files that changed since they were verified are hashed again. Raises UnknownModel,
    WeightsMissing, ChecksumMismatch.
    """
    if all(card.name != name_or_folder for card in CATALOGUE):
        return _local(name_or_folder, weights_dir)
    card = find_card(name_or_folder)
    folder = weights_dir / card.name
    return ModelSource(folder if _is_verified(card, folder) else verify(card, weights_dir), card)


def _local(name_or_folder: str, weights_dir: Path) -> ModelSource:
    """A folder of the operator's own, or what was pulled from a hub under that name."""
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return ModelSource(folder, None)
    if len(folder.parts) == 1 and (weights_dir / folder).is_dir():
        return ModelSource(weights_dir / folder, None)
    if len(folder.parts) > 1:
        raise WeightsMissing(folder)
    raise UnknownModel(name_or_folder, tuple(card.name for card in CATALOGUE))


def _ignore(progress: Progress) -> None:
    pass


def _is_verified(card: ModelCard, folder: Path) -> bool:
    """True if every file has the size and mtime it had when it was last hashed."""
    try:
        noted = json.loads((folder / _MARKER).read_bytes())
        return bool(noted == _stamps(card, folder))
    except (OSError, ValueError):
        return False


def _stamps(card: ModelCard, folder: Path) -> dict[str, list[int | str]]:
    stamps: dict[str, list[int | str]] = {}
    for file in card.files:
        status = (folder / file.target).stat()
        stamps[file.target] = [file.sha256, status.st_size, status.st_mtime_ns]
    return stamps


def _write_marker(card: ModelCard, folder: Path) -> None:
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        part.write_text(json.dumps(_stamps(card, folder)), encoding="utf-8")
        os.replace(part, folder / _MARKER)
    except PermissionError:
        # Weights on a read-only mount work; they are hashed at every start instead.
        return
    sync_folder(folder)


def _is_intact(folder: Path, file: WeightsFile) -> bool:
    path = folder / file.target
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    return sha256_of(path) == file.sha256


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
