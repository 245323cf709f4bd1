"""The replicas of a model: started, woken, put to sleep and ended."""

import asyncio
from collections.abc import Callable, Coroutine

from llm_endpoint.errors import EngineError, EngineUnavailable
from llm_endpoint.generation.protocol import (
    GeneratorInfo,
    LocalEngine,
    SleepingEngine,
    TextEngine,
)
from llm_endpoint.serving.limits import ServingLimits
from llm_endpoint.serving.replica import Replica

_POLL_S = 0.02
# Extra replicas go after this long without work where the model itself never rests.
_EXTRA_IDLE_S = 60.0


class Fleet:
    """Of one model, in one event loop. `on_free` is called whenever a replica may have become
    free without a request having ended."""

    def __init__(
        self,
        name: str,
        build: Callable[[], TextEngine],
        limits: ServingLimits,
        clock: Callable[[], float],
        on_free: Callable[[], None],
    ) -> None:
        self._name, self._build, self._limits, self._clock = name, build, limits, clock
        self._on_free = on_free
        self._spare: TextEngine | None = build()
        self.info: GeneratorInfo = self._spare.info
        self.replicas: list[Replica] = []
        self._made = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        return any(replica.state == "ready" for replica in self.replicas)

    @property
    def is_one_coming(self) -> bool:
        return any(one.state == "starting" or one.is_waking for one in self.replicas)

    @property
    def slots(self) -> int:
        """Requests that all ready replicas work on at once."""
        return sum(replica.slots for replica in self.replicas if replica.state == "ready")

    def an_engine(self) -> TextEngine:
        """One of the model's engines, running or not; it is not started."""
        if self.replicas:
            return self.replicas[0].engine
        self._spare = self._spare or self._build()
        return self._spare

    def start(self) -> None:
        """Starts the least number; they come up in the background."""
        while len(self.replicas) < self._limits.min_replicas:
            self._add()

    def wake(self) -> None:
        """Somebody waits: wakes or starts a replica, unless one is up or coming."""
        for replica in self.replicas:
            if replica.state == "starting":
                # It may have died while nobody was there to notice.
                self.watch(replica)
        if self.is_ready or self.is_one_coming:
            return
        for replica in self.replicas:
            if replica.state == "sleeping":
                replica.is_waking = True
                self._in_background(self._awaken(replica))
                return
        if all(replica.is_draining for replica in self.replicas):
            self._add()

    def scale_up(self) -> None:
        """One more, where there may be one."""
        if len(self.replicas) < self._limits.max_replicas and not self.is_one_coming:
            self._add()

    async def scale_down(self) -> None:
        """Ends what is idle beyond the least number; the last one sleeps, or ends, if it may."""
        idle = [replica for replica in self.replicas if self._is_idle(replica)]
        extra = max(0, len(self.replicas) - max(1, self._limits.min_replicas))
        for replica in idle[:extra]:
            await self.end(replica)
        if self._limits.min_replicas == 0 and self._limits.idle_s is not None:
            for replica in [one for one in self.replicas if self._is_idle(one)]:
                await self._rest(replica)

    def watch(self, replica: Replica) -> None:
        """It went down: `on_free` is called when it is up again."""
        if not replica.is_watched:
            replica.is_watched = True
            self._in_background(self._announce(replica))

    async def end(self, replica: Replica) -> None:
        """Returns when it is gone: once what it works on is done, or after `drain_s`."""
        if replica.is_draining:
            return
        replica.is_draining = True
        until = asyncio.get_running_loop().time() + self._limits.drain_s
        while replica.in_flight and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        await replica.engine.close()
        self.replicas.remove(replica)
        self._on_free()

    def unavailable(self, waited_s: float) -> EngineUnavailable:
        """Why nothing is up."""
        for replica in self.replicas:
            if isinstance(replica.engine, LocalEngine):
                return replica.engine.unavailable(waited_s)
        return EngineUnavailable(f"{self._name} was not up within {waited_s:.1f} s")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.engine.close() for replica in self.replicas))
        self.replicas.clear()
        if self._spare is not None:
            await self._spare.close()

    def _add(self) -> None:
        engine, self._spare = self._spare or self._build(), None
        self._made += 1
        replica = Replica(self._made, engine, self._limits.slots, self._clock())
        self.replicas.append(replica)
        if isinstance(engine, LocalEngine):
            engine.start()
        self.watch(replica)

    async def _announce(self, replica: Replica) -> None:
        # An engine comes up on a thread of its own, which tells nobody.
        while replica.state == "starting":  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        replica.is_watched = False
        replica.idle_since = self._clock()
        self._on_free()

    async def _awaken(self, replica: Replica) -> None:
        assert isinstance(replica.engine, SleepingEngine)
        try:
            await replica.engine.wake()
        except EngineError:
            # Asleep for good: a new one does what it would have done.
            replica.is_waking = False
            await self.end(replica)
            return
        replica.is_waking = False
        replica.idle_since = self._clock()
        self._on_free()

    async def _rest(self, replica: Replica) -> None:
        if isinstance(replica.engine, SleepingEngine) and replica.engine.can_sleep:
            if replica.state == "ready":
                replica.is_resting = True
                try:
                    await replica.engine.sleep()
                finally:
                    replica.is_resting = False
                self._on_free()
        else:
            await self.end(replica)

    def _is_idle(self, replica: Replica) -> bool:
        limit_s = _EXTRA_IDLE_S if self._limits.idle_s is None else self._limits.idle_s
        is_still = replica.state in ("ready", "sleeping") and not replica.in_flight
        return is_still and self._clock() - replica.idle_since >= limit_s

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
