"""Requests that wait for a free slot: the most urgent first, then the oldest, never too many."""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from llm_endpoint.errors import EngineBusy
from llm_endpoint.serving.relay import Priority

_T = TypeVar("_T")
_ORDER: dict[Priority, int] = {"reserved": 0, "interactive": 1, "bulk": 2}


@dataclass(order=True, slots=True)
class _Waiting(Generic[_T]):
    rank: tuple[int, int]
    since: float = field(compare=False)
    prefix: str = field(compare=False)
    priority: Priority = field(compare=False)
    turn: "asyncio.Future[_T]" = field(compare=False)


class WaitingQueue(Generic[_T]):
    """Bounded; of one event loop. What is waited for is a T."""

    def __init__(self, model: str, most: int, clock: Callable[[], float]) -> None:
        self._model, self._most, self._clock = model, most, clock
        self._heap: list[_Waiting[_T]] = []
        self._count = 0

    def __len__(self) -> int:
        return sum(not one.turn.done() for one in self._heap)

    @property
    def oldest_s(self) -> float:
        """How long the one that has waited longest has; 0 where nobody waits."""
        since = [one.since for one in self._heap if not one.turn.done()]
        return self._clock() - min(since) if since else 0.0

    def is_waiting(self, more_urgent_than: Priority) -> bool:
        """Whether somebody waits who goes before a new request of that priority."""
        order = _ORDER[more_urgent_than]
        return any(one.rank[0] <= order and not one.turn.done() for one in self._heap)

    async def wait(
        self, prefix: str, priority: Priority, timeout_s: float, *, give_back: Callable[[_T], None]
    ) -> _T:
        """One's turn. Raises EngineBusy where the queue is full, or TimeoutError.

        give_back: gets a turn that came in the moment in which nobody waited for it any more.
        """
        if len(self) >= self._most:
            raise EngineBusy(self._model, len(self))
        self._count += 1
        turn: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        rank = (_ORDER[priority], self._count)
        heapq.heappush(self._heap, _Waiting(rank, self._clock(), prefix, priority, turn))
        try:
            async with asyncio.timeout(timeout_s):
                return await turn
        except (TimeoutError, asyncio.CancelledError):
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                give_back(turn.result())
            turn.cancel()
            raise

    def give(self, find: Callable[[str, Priority], _T | None]) -> None:
        """Gives turns, in order, until `find` has nothing for whoever is next."""
        while self._heap:
            first = self._heap[0]
            if not first.turn.done():
                if (found := find(first.prefix, first.priority)) is None:
                    return
                first.turn.set_result(found)
            heapq.heappop(self._heap)

    def fail(self, error: Exception) -> None:
        """Ends the wait of everybody."""
        for one in self._heap:
            if not one.turn.done():
                one.turn.set_exception(error)
        self._heap.clear()
