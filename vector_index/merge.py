"""Merging segments into one, in a process of its own: `python -m vector_index.merge <job.json>`.

The job reads immutable files only and writes a folder beside the generations, so it needs no
lock, and a job that dies leaves nothing but that folder, which the next publish removes. The
writer adopts the result with its next generation.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vector_index import disk
from vector_index.deaths import Deaths
from vector_index.generation import Generation
from vector_index.kinds import merge_vectors
from vector_index.manifest import FileEntry, SegmentEntry, read_manifest
from vector_index.publish import sync_new
from vector_index.segment import (
    Segment,
    new_segment_id,
    open_segment,
    read_tombstones,
    segment_kind,
    write_segment,
)

_log = logging.getLogger(__name__)

_JOB = "job.json"
_RESULT = "merged.json"
_ERRORS = "stderr.txt"


@dataclass(frozen=True, slots=True)
class MergeJob:
    """The live documents of these segments, as of this generation, become one new segment."""

    generation: Path
    segments: tuple[str, ...]
    target: Path
    id: str


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The new segment and its files, by path relative to the job's target."""

    entry: SegmentEntry
    files: Mapping[str, FileEntry]


_JOBS = TypeAdapter(MergeJob)
_RESULTS = TypeAdapter(MergeResult)


class Merge:
    """One merge under way: start it, go on working, adopt its result later."""

    def __init__(self, generation: Generation, segments: Sequence[str]) -> None:
        sequence = generation.manifest.sequence
        layers = {layer.segment.id: layer for layer in generation.layers}
        self.sources = tuple(layers[segment] for segment in segments)
        self._kept = tuple(layer.deaths.alive(sequence) for layer in self.sources)
        target = generation.folder.parent / f".merge-{new_segment_id()}"
        self.job = MergeJob(generation.folder, tuple(segments), target, new_segment_id())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pinned(self) -> frozenset[str]:
        """The folders that must not be pruned while the merge needs them."""
        return frozenset({self.job.generation.name, self.job.target.name})

    def start(self) -> None:
        """Starts the child process and returns."""
        target = self.job.target
        target.mkdir()
        disk.write_bytes(target / _JOB, _JOBS.dump_json(self.job))
        room = Path(__file__).resolve().parent.parent
        path = os.pathsep.join(filter(None, [str(room), os.environ.get("PYTHONPATH")]))
        with (target / _ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                # -P: nothing is imported from the folder that the server was started in.
                [sys.executable, "-P", "-m", "vector_index.merge", str(target / _JOB)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
            )

    def run_here(self) -> None:
        """Does the work in this process: for merges smaller than the start of another one."""
        self.job.target.mkdir()
        run_merge(self.job)

    def is_over(self) -> bool:
        """Whether the child has ended, well or not."""
        return self._process is None or self._process.poll() is not None

    def wait(self) -> None:
        """Returns once the child has ended."""
        if self._process is not None:
            self._process.wait()

    def result(self) -> MergeResult | None:
        """What the ended merge made; None, with a line in the log, when it failed."""
        status = 0 if self._process is None else self._process.returncode
        try:
            if status == 0:
                return _RESULTS.validate_json((self.job.target / _RESULT).read_bytes())
            reason = (self.job.target / _ERRORS).read_text(errors="replace").strip()
        except (OSError, ValidationError) as exc:
            reason = str(exc)
        _log.warning("merge_failed status=%d reason=%s", status, reason[-500:])
        return None

    def deaths(self, segment: Segment) -> Deaths:
        """When each of the merged documents died in the segment it came from."""
        pairs = zip(self.sources, self._kept, strict=True)
        at = np.concatenate([layer.deaths.at(kept) for layer, kept in pairs])
        return Deaths(at, rows=segment.count_rows(np.flatnonzero(at)))

    def discard(self) -> None:
        """Ends the child if it still runs, and removes what it wrote."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.job.target, ignore_errors=True)


def run_merge(job: MergeJob) -> None:
    """Writes the merged segment and its result file below the job's target."""
    manifest = read_manifest(job.generation)
    entries = {entry.id: entry for entry in manifest.segments}
    parts: list[tuple[Segment, NDArray[np.int64]]] = []
    for segment_id in job.segments:
        segment = open_segment(job.generation, entries[segment_id], manifest.settings)
        deaths = Deaths.none(segment.documents.num_rows)
        deaths.kill(read_tombstones(job.generation, segment_id), 1, rows=0)
        parts.append((segment, deaths.alive(1)))
    rows = [segment.rows_of(kept) for segment, kept in parts]
    documents = [segment.documents.take(pa.array(kept)) for segment, kept in parts]
    passages = [
        segment.rows.table.take(pa.array(kept))
        for (segment, _), kept in zip(parts, rows, strict=True)
    ]
    kind = segment_kind(manifest.settings, sum(map(len, rows)), of=manifest.passages).kind
    sources = [segment.vectors for segment, _ in parts]
    vectors = merge_vectors(list(zip(sources, rows, strict=True)), kind)
    table = pa.concat_tables(documents)
    write_segment(
        job.target,
        job.id,
        documents=table,
        passages=pa.concat_tables(passages),
        vectors=vectors,
    )
    entry = SegmentEntry(job.id, vectors.kind, vectors.count, table.num_rows, 0)
    besides = {name: FileEntry("", 0) for name in (_JOB, _ERRORS)}
    result = MergeResult(entry, sync_new(job.target, besides))
    disk.replace_text(job.target / _RESULT, _RESULTS.dump_json(result).decode())


if __name__ == "__main__":
    os.nice(10)  # searches go first
    run_merge(_JOBS.validate_json(Path(sys.argv[1]).read_bytes()))
