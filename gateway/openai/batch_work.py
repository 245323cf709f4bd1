"""The requests of a batch, asked some at a time, behind whoever is waiting."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from gateway.openai.batch_lines import Journal, LineRequest, answered
from gateway.openai.dispatch import answer
from gateway.openai.errors import StorageFailed
from gateway.openai.models import ServedModels
from gateway.traffic import Traffic
from llm_endpoint.generation import OpenAIEngine

# Full, or away for a moment: to be asked again.
_PASSING = (429, 503)
_TRIES = 8
_PAUSE_FIRST_S = 0.2
# What has no place behind others of its own waits for a gap between requests, but not for ever.
_PATIENCE_S = 5.0


@runtime_checkable
class HasBulk(Protocol):
    """An engine that can be asked behind all others."""

    @property
    def bulk(self) -> OpenAIEngine: ...


class BulkModels:
    """The models of a server for work that nobody waits for; `concurrency` requests at once."""

    def __init__(self, models: ServedModels, traffic: Traffic, *, concurrency: int) -> None:
        self._traffic = traffic
        self._behind = frozenset(
            name for name, engine in models.generators.items() if isinstance(engine, HasBulk)
        )
        self._models = replace(models, generators=_bulk(models.generators))
        self._slots = asyncio.Semaphore(concurrency)
        self.concurrency = concurrency

    async def answer(self, path: str, body: Mapping[str, object]) -> tuple[int, bytes]:
        """Status and body; asked again where the model was busy or away."""
        pause_s = _PAUSE_FIRST_S
        for _ in range(_TRIES - 1):
            status, made = await self._ask(path, body)
            if status not in _PASSING:
                return status, made
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return await self._ask(path, body)

    async def _ask(self, path: str, body: Mapping[str, object]) -> tuple[int, bytes]:
        if body.get("model") not in self._behind:
            # Without a slot: another model may have a place behind its others.
            await self._traffic.quiet(_PATIENCE_S)
        async with self._slots:
            return await answer(self._models, path, body)


class Asking:
    """All requests of one batch."""

    def __init__(
        self,
        models: BulkModels,
        endpoint: str,
        output: Journal,
        errors: Journal,
        on_answer: Callable[[], None],
    ) -> None:
        self._models = models
        self._endpoint = endpoint
        self._output = output
        self._errors = errors
        self._on_answer = on_answer

    async def run(self, requests: Iterator[LineRequest]) -> None:
        """Returns once every request that had no line has one. Raises StorageFailed."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._models.concurrency):
                    group.create_task(self._work(requests))
        except* OSError as several:
            (first, *_) = several.exceptions
            assert isinstance(first, OSError)
            raise StorageFailed(first) from first

    async def _work(self, requests: Iterator[LineRequest]) -> None:
        for request in requests:
            identity = request.custom_id
            if identity in self._output.custom_ids or identity in self._errors.custom_ids:
                continue
            status, body = await self._models.answer(self._endpoint, request.body)
            # Nothing is awaited from here on: an answer is written or was never there.
            journal = self._output if status == 200 else self._errors
            journal.append(identity, answered(identity, status, body))
            self._on_answer()


def _bulk(generators: Mapping[str, OpenAIEngine]) -> dict[str, OpenAIEngine]:
    return {
        name: engine.bulk if isinstance(engine, HasBulk) else engine
        for name, engine in generators.items()
    }
