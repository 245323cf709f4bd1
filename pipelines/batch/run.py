"""All rows that have no result yet, some at once, committed as they come."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass

from llm_endpoint import LlmEndpointError
from pipelines.batch.asking import Asker
from pipelines.batch.key_set import KeySet
from pipelines.batch.results import Result, ResultTable
from pipelines.batch.rows import PinnedRows
from pipelines.errors import PipelineError
from pipelines.parts import Progress

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Pace:
    """concurrency: rows asked at once. A commit is made of `commit_rows` results, or of those of
    `commit_every_s`: what a kill costs."""

    concurrency: int
    commit_rows: int = 256
    commit_every_s: float = 15.0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """rows: of the table, or of the limit. answered, failed: by this run. kept: from before.

    seconds: that this run took.
    """

    rows: int
    answered: int
    failed: int
    kept: int
    seconds: float


async def answer_rows(
    rows: PinnedRows,
    results: ResultTable,
    asker: Asker,
    *,
    model: str,
    pace: Pace,
    limit: int | None = None,
    on_progress: Progress = lambda done, total: None,
) -> BatchReport:
    """Asks every row, or the first `limit`, that has no result; then each has exactly one.

    The caller holds `results.alone()`. Raises the errors of PinnedRows, ResultTable and Asker;
    what was answered until then is kept.
    """
    started = time.monotonic()
    total = await asyncio.to_thread(rows.check_keys)
    total = total if limit is None else min(total, limit)
    done = (await asyncio.to_thread(results.outcome)).keys
    feed = _Feed(rows, done, total)
    sink = _Sink(results, model, pace, lambda made: on_progress(feed.kept + made, total))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(pace.concurrency):
                group.create_task(_work(feed, asker, sink))
    except* (LlmEndpointError, PipelineError) as several:
        # One reason is enough: the others are of workers that met the same engine.
        raise several.exceptions[0] from None
    finally:
        await sink.flush()
    await asyncio.to_thread(rows.check_same)
    await asyncio.to_thread(results.tidy)
    return BatchReport(
        total, sink.answered, sink.failed, feed.kept, round(time.monotonic() - started, 3)
    )


async def _work(feed: "_Feed", asker: Asker, sink: "_Sink") -> None:
    async for row in feed:
        await sink.put(await asker.ask(row))


class _Feed:
    """The rows to ask, one at a time to whoever is free; a batch of them is in memory."""

    def __init__(self, rows: PinnedRows, done: KeySet, most: int) -> None:
        self.kept = 0
        self._unread = self._batches(rows, done, most)
        self._ready: list[Row] = []
        self._reading = asyncio.Lock()

    def __aiter__(self) -> AsyncIterator[Row]:
        return self

    async def __anext__(self) -> Row:
        async with self._reading:
            while not self._ready:
                # Reading waits for a disk or an object store: not on the event loop.
                some = await asyncio.to_thread(next, self._unread, None)
                if some is None:
                    raise StopAsyncIteration
                self._ready = some[::-1]
            return self._ready.pop()

    def _batches(self, rows: PinnedRows, done: KeySet, most: int) -> Iterator[list[Row]]:
        left = most
        for batch in rows.batches():
            some = batch[:left]
            left -= len(some)
            known = done.has([row[rows.key] for row in some])
            self.kept += sum(known)
            yield [row for row, is_known in zip(some, known, strict=True) if not is_known]
            if not left:
                return


class _Sink:
    """Results on their way into the table; whoever brings one waits while a commit is made."""

    def __init__(
        self, results: ResultTable, model: str, pace: Pace, on_made: Callable[[int], None]
    ) -> None:
        self.answered = self.failed = 0
        self._results = results
        self._model = model
        self._pace = pace
        self._on_made = on_made
        self._waiting: list[Result] = []
        self._committed_at = time.monotonic()
        self._committing = asyncio.Lock()

    async def put(self, result: Result) -> None:
        async with self._committing:
            self._waiting.append(result)
            if result.error is None:
                self.answered += 1
            else:
                self.failed += 1
            self._on_made(self.answered + self.failed)
            age_s = time.monotonic() - self._committed_at
            if len(self._waiting) >= self._pace.commit_rows or age_s > self._pace.commit_every_s:
                await self._commit()

    async def flush(self) -> None:
        async with self._committing:
            await self._commit()

    async def _commit(self) -> None:
        # Shielded: a commit that is under way ends, and its rows are not handed over twice.
        some, self._waiting = self._waiting, []
        await asyncio.shield(asyncio.to_thread(self._results.append, some, self._model))
        self._committed_at = time.monotonic()
