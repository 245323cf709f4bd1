"""One encoder on one thread, shared by everybody who has texts for it: batches across callers."""

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.batching import batches
from llm_endpoint.embedding.encoder import Encoder, Tokens
from llm_endpoint.errors import EngineBusy, EngineUnavailable

_log = logging.getLogger(__name__)

Vectors = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How much a lane takes.

    window: texts taken from the queue at a time, in turn from everybody who waits; what comes
    meanwhile waits for all of them, and the more there are the less is padding. most_waiting:
    texts in the queue, beyond which more is refused; None for no bound. niceness: of the lane's
    threads, 0 to 19, as in nice(1).
    """

    window: int
    most_waiting: int | None = None
    niceness: int = 0


@dataclass(frozen=True, slots=True)
class LaneState:
    """waiting: texts. texts, tokens, batches: done since the start; tokens without padding."""

    waiting: int
    texts: int
    tokens: int
    batches: int
    is_closed: bool


@dataclass(slots=True)
class _Job:
    """The texts of one call. left: positions still to be taken, shortest text last."""

    tokens: Sequence[Tokens]
    by_token: bool
    on_progress: Callable[[int], None] | None
    left: list[int]
    found: Vectors
    done: int = 0
    future: "Future[Vectors]" = field(default_factory=Future)


class Lane:
    """Texts in, vectors out, in the order of each call. Callable from any thread."""

    def __init__(self, build: Callable[[], Encoder], name: str, limits: LaneLimits) -> None:
        """Returns when the encoder is there; what `build` raises is raised. `build` is called on
        the lane's own thread, so that threads which the encoder starts are as nice as it is."""
        self._limits = limits
        self.window = limits.window
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._waiting = self._texts = self._tokens = self._batches = 0
        self._is_closed = False
        built: Future[Encoder] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(build, built), name=f"embed-{name}", daemon=True
        )
        self._thread.start()
        self.encoder = built.result()

    def submit(
        self,
        tokens: Sequence[Tokens],
        *,
        by_token: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> "Future[Vectors]":
        """A vector (dim,) for each text, or with by_token (tokens, dim). Cancel the future, and
        what of it has not been taken yet is not done.

        on_progress: told on the lane's thread how many are newly done. Raises EngineBusy or
        EngineUnavailable, and then nothing was taken.
        """
        left = sorted(range(len(tokens)), key=lambda at: len(tokens[at]), reverse=True)
        job = _Job(tokens, by_token, on_progress, left, [np.empty(0, np.float32)] * len(tokens))
        with self._changed:
            self._check_room(len(tokens))
            if tokens:
                self._jobs.append(job)
                self._waiting += len(tokens)
                self._changed.notify()
            else:
                job.future.set_result([])
        return job.future

    def state(self) -> LaneState:
        with self._changed:
            return LaneState(
                self._waiting, self._texts, self._tokens, self._batches, self._is_closed
            )

    def close(self) -> None:
        """What waits ends in EngineUnavailable; returns when the thread is gone."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _check_room(self, more: int) -> None:
        name = self.encoder.info.id
        if self._is_closed:
            raise EngineUnavailable(f"the embedder {name} is closed; build a new one")
        most = self._limits.most_waiting
        # A call on its own is taken whatever its size: it could never be sent otherwise.
        if most is not None and self._waiting and self._waiting + more > most:
            raise EngineBusy(name, self._waiting)

    def _run(self, build: Callable[[], Encoder], built: "Future[Encoder]") -> None:
        _be_nice(self._limits.niceness)
        try:
            encoder = build()
        except BaseException as exc:  # noqa: BLE001 - raised where the lane is made
            built.set_exception(exc)
            return
        built.set_result(encoder)
        while taken := self._take():
            self._work(encoder, taken)
        encoder.close()

    def _take(self) -> list[tuple[_Job, int]]:
        """The next texts, one in turn from each call; [] when closed."""
        taken: list[tuple[_Job, int]] = []
        with self._changed:
            while not taken:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                if self._is_closed:
                    self._abandon()
                    return []
                taken = self._taken()
        return taken

    def _taken(self) -> list[tuple[_Job, int]]:
        """Empty where all who waited have left, or have failed already."""
        taken: list[tuple[_Job, int]] = []
        while self._jobs and len(taken) < self._limits.window:
            job = self._jobs.popleft()
            if job.future.done():
                self._waiting -= len(job.left)
                continue
            taken.append((job, job.left.pop()))
            self._waiting -= 1
            if job.left:
                self._jobs.append(job)
        return taken

    def _abandon(self) -> None:
        error = EngineUnavailable(f"the embedder {self.encoder.info.id} was closed meanwhile")
        for job in self._jobs:
            _fail(job, error)
        self._jobs.clear()
        self._waiting = 0

    def _work(self, encoder: Encoder, taken: list[tuple[_Job, int]]) -> None:
        for by_token in (False, True):
            some = [one for one in taken if one[0].by_token is by_token]
            tokens = [job.tokens[at] for job, at in some]
            for positions in batches(tokens):
                self._encode(encoder, [some[position] for position in positions], by_token)

    def _encode(self, encoder: Encoder, batch: list[tuple[_Job, int]], by_token: bool) -> None:
        batch = [(job, at) for job, at in batch if not job.future.done()]
        if not batch:
            return
        tokens = [job.tokens[at] for job, at in batch]
        try:
            made = encoder.encode_tokens(tokens) if by_token else list(encoder.encode(tokens))
        except Exception as exc:  # noqa: BLE001 - the callers' to know; the lane goes on
            for job, _ in batch:
                _fail(job, exc)
            return
        with self._changed:
            self._texts += len(batch)
            self._tokens += sum(map(len, tokens))
            self._batches += 1
        done: dict[int, tuple[_Job, int]] = {}
        for (job, at), vector in zip(batch, made, strict=True):
            job.found[at] = vector
            done[id(job)] = job, done.get(id(job), (job, 0))[1] + 1
        for job, count in done.values():
            _advance(job, count)


def _advance(job: _Job, count: int) -> None:
    job.done += count
    if job.on_progress is not None:
        job.on_progress(count)
    if job.done == len(job.tokens) and job.future.set_running_or_notify_cancel():
        job.future.set_result(job.found)


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)


def _be_nice(niceness: int) -> None:
    """The calling thread, and those it starts. Linux has this by thread; elsewhere nothing is."""
    if niceness and sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
        except OSError as exc:
            _log.warning("niceness_refused niceness=%d error=%s", niceness, exc)
