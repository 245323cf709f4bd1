"""Batches under way: behind whoever is waiting, and through restarts of the server."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from gateway.openai.batch import ENDED, Batch, BatchStore, LineError, Status, new_batch_id
from gateway.openai.batch_lines import Journal, left_out, read_requests, validate
from gateway.openai.batch_work import Asking, BulkModels
from gateway.openai.errors import (
    BatchEnded,
    BatchUnknown,
    FileUnknown,
    StorageFailed,
    TooManyBatches,
)
from gateway.openai.file_store import FileInfo, FileStore, new_file_id

_log = logging.getLogger(__name__)

WINDOW_S = 24 * 3600
_MOST_UNDER_WAY = 100
# A full disk is emptied by somebody; until then nothing is lost.
_STORAGE_PAUSE_S = 10.0
_LEFT_OUT: Mapping[Status, tuple[str, str]] = {
    "cancelled": ("batch_cancelled", "the batch was cancelled before this request was asked"),
    "expired": ("batch_expired", "the batch's 24 hours were over before this request was asked"),
}


class BatchRunner:
    """All batches of a server. Use as an asynchronous context: it runs them meanwhile."""

    def __init__(
        self, files: FileStore, store: BatchStore, models: BulkModels, *, max_line_bytes: int
    ) -> None:
        self.files = files
        self._store = store
        self._models = models
        self._max_line_bytes = max_line_bytes
        self._batches: dict[str, Batch] = {}
        self._carrying: dict[str, asyncio.Task[None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._saving = asyncio.Lock()

    async def __aenter__(self) -> "BatchRunner":
        await asyncio.to_thread(self.files.clear_drafts)
        for batch in await asyncio.to_thread(self._store.all):
            self._batches[batch.id] = batch
            if batch.status not in ENDED:
                self._launch(batch.id)
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._carrying.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(
        self, endpoint: str, input_file_id: str, metadata: Mapping[str, str] | None
    ) -> Batch:
        """A batch that is on the disk. Raises FileUnknown, TooManyBatches, StorageFailed."""
        await asyncio.to_thread(self.files.info, input_file_id)
        if len(self._carrying) >= _MOST_UNDER_WAY:
            raise TooManyBatches(_MOST_UNDER_WAY)
        now = int(time.time())
        batch = Batch(
            new_batch_id(), endpoint, input_file_id, now, now + WINDOW_S, metadata=metadata
        )
        self._batches[batch.id] = batch
        await self._save(batch.id)
        self._launch(batch.id)
        return batch

    def get(self, batch_id: str) -> Batch:
        """Raises BatchUnknown."""
        if batch_id not in self._batches:
            raise BatchUnknown(batch_id)
        return self._batches[batch_id]

    def all(self) -> list[Batch]:
        """Newest first."""
        return list(reversed(self._batches.values()))

    def reader_of(self, file_id: str) -> str | None:
        """The batch under way that reads this file."""
        for batch in self._batches.values():
            if batch.input_file_id == file_id and batch.status not in ENDED:
                return batch.id
        return None

    async def cancel(self, batch_id: str) -> Batch:
        """Ends it with the answers that are there. Raises BatchUnknown, BatchEnded."""
        batch = self.get(batch_id)
        if batch.status not in ("validating", "in_progress", "cancelling"):
            raise BatchEnded(batch_id, batch.status)
        await self._become(batch_id, "cancelling")
        if batch_id in self._asking:
            self._asking[batch_id].cancel()
        return self.get(batch_id)

    def _launch(self, batch_id: str) -> None:
        task = asyncio.create_task(self._carry(batch_id))
        self._carrying[batch_id] = task
        task.add_done_callback(lambda _: self._carrying.pop(batch_id, None))

    async def _carry(self, batch_id: str) -> None:
        while self.get(batch_id).status not in ENDED:
            try:
                await self._step(batch_id)
            except (StorageFailed, OSError) as exc:
                _log.error("batch_waits id=%s reason=%s", batch_id, exc)
                await asyncio.sleep(_STORAGE_PAUSE_S)
            except FileUnknown as exc:
                await self._fail(batch_id, LineError("input_file_not_found", str(exc), None))
            except Exception:  # noqa: BLE001 - one batch must not end the others
                _log.exception("batch_failed id=%s", batch_id)
                message = "unexpected error; the server's log has it"
                await self._fail(batch_id, LineError("internal_error", message, None))

    async def _step(self, batch_id: str) -> None:
        batch = self.get(batch_id)
        if batch.total == 0:
            await self._validate(batch)
        elif batch.status == "finalizing":
            await self._finalize(batch)
        else:
            await self._work(batch)

    async def _validate(self, batch: Batch) -> None:
        file = await asyncio.to_thread(self.files.content, batch.input_file_id)
        total, errors = await asyncio.to_thread(
            validate, file, batch.endpoint, self._max_line_bytes
        )
        if errors:
            return await self._fail(batch.id, *errors)
        self._set(batch.id, total=total)
        # It may have been cancelled meanwhile.
        status = self.get(batch.id).status
        await self._become(batch.id, "in_progress" if status == "validating" else status)

    async def _work(self, batch: Batch) -> None:
        folder = self._store.folder(batch.id)
        file = await asyncio.to_thread(self.files.content, batch.input_file_id)
        output, errors = await asyncio.to_thread(_journals, folder)
        try:
            ends_as = await self._ask(batch.id, file, output, errors)
            if ends_as in _LEFT_OUT:
                await asyncio.to_thread(_leave_out, file, output, errors, ends_as)
            self._count(batch.id, output, errors)
        finally:
            await asyncio.to_thread(_close, output, errors)
        self._set(
            batch.id,
            ends_as=ends_as,
            output_file_id=new_file_id() if output.custom_ids else None,
            error_file_id=new_file_id() if errors.custom_ids else None,
        )
        await self._become(batch.id, "finalizing")

    async def _ask(self, batch_id: str, file: Path, output: Journal, errors: Journal) -> Status:
        """Asks every line that has no answer; how it ended."""
        batch = self.get(batch_id)
        if batch.status == "cancelling":
            return "cancelled"

        def count() -> None:
            self._count(batch_id, output, errors)

        count()
        asking = Asking(self._models, batch.endpoint, output, errors, count)
        task = asyncio.create_task(asking.run(read_requests(file)))
        self._asking[batch_id] = task
        try:
            await asyncio.wait({task}, timeout=max(0.0, batch.expires_at - time.time()))
            if task.cancelled():
                return "cancelled"
            if not task.done():
                return "expired"
            task.result()
            return "completed"
        finally:
            del self._asking[batch_id]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)

    async def _finalize(self, batch: Batch) -> None:
        folder = self._store.folder(batch.id)
        for file_id, name in (
            (batch.output_file_id, "output"),
            (batch.error_file_id, "errors"),
        ):
            if file_id is not None:
                await asyncio.to_thread(
                    self._publish, folder / f"{name}.jsonl", file_id, f"{batch.id}_{name}.jsonl"
                )
        await self._become(batch.id, batch.ends_as)
        for name in ("output", "errors"):
            (folder / f"{name}.jsonl").unlink(missing_ok=True)

    def _publish(self, lines: Path, file_id: str, name: str) -> None:
        size = lines.stat().st_size
        info = FileInfo(file_id, size, int(time.time()), name, "batch_output")
        self.files.adopt(lines, info)

    def _count(self, batch_id: str, output: Journal, errors: Journal) -> None:
        self._set(batch_id, completed=len(output.custom_ids), failed=len(errors.custom_ids))

    async def _fail(self, batch_id: str, *errors: LineError) -> None:
        self._set(batch_id, errors=errors)
        await self._become(batch_id, "failed")

    def _set(self, batch_id: str, **changes: object) -> None:
        self._batches[batch_id] = replace(self._batches[batch_id], **changes)  # type: ignore[arg-type]

    async def _become(self, batch_id: str, status: Status) -> None:
        times = {**self._batches[batch_id].times, status: int(time.time())}
        self._set(batch_id, status=status, times=times)
        await self._save(batch_id)

    async def _save(self, batch_id: str) -> None:
        async with self._saving:
            try:
                await asyncio.to_thread(self._store.save, self._batches[batch_id])
            except OSError as exc:
                raise StorageFailed(exc) from exc


def _journals(folder: Path) -> tuple[Journal, Journal]:
    return Journal(folder / "output.jsonl"), Journal(folder / "errors.jsonl")


def _close(output: Journal, errors: Journal) -> None:
    with closing(errors), closing(output):
        pass


def _leave_out(file: Path, output: Journal, errors: Journal, ends_as: Status) -> None:
    """Gives every request that has no answer a line that says why."""
    code, message = _LEFT_OUT[ends_as]
    for request in read_requests(file):
        known = request.custom_id in output.custom_ids or request.custom_id in errors.custom_ids
        if not known:
            errors.append(request.custom_id, left_out(request.custom_id, code, message))
