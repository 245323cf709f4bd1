"""A served model over scripted engines that come up, sleep and fail on order."""

import asyncio
from contextlib import aclosing

import pytest

from llm_endpoint.errors import (
    CircuitOpen,
    EngineBusy,
    EngineDied,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from llm_endpoint.generation import Fault, GenerationRequest, Message, ScriptedGenerator
from llm_endpoint.serving.breaker import BreakerLimits
from llm_endpoint.serving.limits import ServingLimits
from llm_endpoint.serving.served_model import ServedModel

BODY = {"messages": [{"role": "user", "content": "hello"}]}


class Engine(ScriptedGenerator):
    """Comes up when it is told to; writes one token when it is let."""

    def __init__(self, world):
        super().__init__(world.script, model="m")
        self.world, self.number = world, len(world.engines)
        self.ready, self.asleep, self.closed = world.comes_up, False, False
        self.asked = 0
        self.can_sleep = world.can_sleep
        world.engines.append(self)

    @property
    def is_asleep(self):
        return self.asleep

    async def sleep(self):
        self.asleep = True

    async def wake(self):
        await asyncio.sleep(0)
        self.world.wakes += 1
        self.asleep = False

    def start(self):
        self.world.starts += 1

    def is_ready(self):
        return self.ready and not self.closed

    def unavailable(self, waited_s):
        return EngineUnavailable(f"not up after {waited_s:g} s; the log says why")

    async def stream(self, request):
        self.asked += 1
        self.world.order.append(request.messages[0].content)
        await asyncio.wait_for(self.world.gate.wait(), request.timeout_s)
        async with aclosing(super().stream(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self):
        self.closed = True
        await super().close()


class World:
    """A model, its engines, and the hands of its clock."""

    def __init__(self, script=("ok",), *, comes_up=True, can_sleep=False, **limits):
        self.script, self.comes_up, self.can_sleep = list(script), comes_up, can_sleep
        self.engines, self.order = [], []
        self.starts = self.wakes = 0
        self.now = 1000.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.model = ServedModel(
            "m", lambda: Engine(self), limits_of(limits), clock=lambda: self.now
        )

    async def ask(self, text="hello", *, engine=None, timeout_s=30.0):
        request = GenerationRequest((Message("user", text),), max_tokens=9, timeout_s=timeout_s)
        return (await (engine or self.model).generate(request)).text

    def asking(self, text="hello", **options):
        return asyncio.create_task(self.ask(text, **options))

    async def __aenter__(self):
        self.model.start()
        return self

    async def __aexit__(self, *_):
        self.gate.set()
        await self.model.close()
        assert all(engine.closed for engine in self.engines)


def limits_of(limits):
    return ServingLimits(**{"slots": 2, **limits})


async def until(is_so):
    for _ in range(20_000):
        if is_so():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never was")


def run(scenario):
    """The test as a plain function; World needs a running loop."""

    def test():
        asyncio.run(asyncio.wait_for(scenario(), 60))

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


@run
async def test_every_way_of_asking_reaches_the_engine():
    async with World(["one two"]) as world:
        assert await world.ask() == "one two"
        request = GenerationRequest((Message("user", "x"),), max_tokens=9)
        async with aclosing(world.model.stream(request)) as deltas:
            assert "".join([delta.text async for delta in deltas]) == "one two"
        assert b"one two" in await world.model.ask("chat/completions", BODY, timeout_s=9)
        async with aclosing(
            world.model.ask_stream("chat/completions", BODY, timeout_s=9)
        ) as events:
            assert len([event async for event in events]) == 3
        assert await world.model.count_tokens("a b c") == 3
        assert world.model.state().replicas[0].in_flight == 0


@run
async def test_first_requests_side_by_side_share_one_start():
    async with World(min_replicas=0, comes_up=False) as world:
        assert (world.starts, world.model.state().state) == (0, "stopped")
        asked = [world.asking() for _ in range(8)]
        await until(lambda: world.model.state().waiting == 8)
        assert world.model.state().state == "starting"
        world.engines[0].ready = True
        assert await asyncio.gather(*asked) == ["ok"] * 8
        assert world.starts == 1


@run
async def test_a_model_that_does_not_come_up_says_why_at_the_deadline():
    async with World(min_replicas=0, comes_up=False) as world:
        with pytest.raises(EngineUnavailable, match="the log says why"):
            await world.ask(timeout_s=0.05)
        assert world.model.state().waiting == 0


@run
async def test_an_idle_model_stops_and_the_next_request_starts_it_again():
    async with World(min_replicas=0, idle_s=60) as world:
        await world.ask()
        world.now += 59
        await world.model.tick()
        assert world.model.is_ready()
        world.now += 2
        await world.model.tick()
        assert world.model.state().state == "stopped"
        assert world.engines[0].closed
        assert await world.model.count_tokens("a b") == 2
        assert world.starts == 1
        assert await world.ask() == "ok"
        assert world.starts == 2


@run
async def test_an_idle_model_whose_engine_can_sleeps_and_wakes_once_for_everybody():
    async with World(min_replicas=0, idle_s=60, can_sleep=True) as world:
        await world.ask()
        world.now += 61
        await world.model.tick()
        assert world.model.state().state == "sleeping"
        assert await asyncio.gather(*(world.asking() for _ in range(5))) == ["ok"] * 5
        assert (world.wakes, world.starts) == (1, 1)


@run
async def test_a_model_that_must_run_never_rests():
    async with World(min_replicas=1, idle_s=1) as world:
        world.now += 1000
        await world.model.tick()
        assert world.model.is_ready()


@run
async def test_the_queue_is_bounded_and_so_is_the_wait():
    async with World(queue=2, queue_timeout_s=0.1) as world:
        world.gate.clear()
        under_way = [world.asking() for _ in range(2)]
        await until(lambda: len(world.order) == 2)
        waiting = [world.asking() for _ in range(2)]
        await until(lambda: world.model.state().waiting == 2)
        with pytest.raises(EngineBusy, match="m is busy: 2 requests wait already"):
            await world.ask()
        for one in waiting:
            with pytest.raises(EngineBusy):
                await one
        world.gate.set()
        assert await asyncio.gather(*under_way) == ["ok"] * 2
        assert await world.ask() == "ok"


@run
async def test_who_leaves_the_queue_or_an_answer_takes_nothing_along():
    async with World(slots=1) as world:
        world.gate.clear()
        under_way = world.asking("first")
        await until(lambda: world.order == ["first"])
        left, stays = world.asking("left"), world.asking("stays")
        await until(lambda: world.model.state().waiting == 2)
        left.cancel()
        under_way.cancel()
        await until(lambda: "stays" in world.order)
        world.gate.set()
        assert await stays == "ok"
        assert world.order == ["first", "stays"]
        assert world.model.state().replicas[0].in_flight == 0


@run
async def test_bulk_waits_behind_questions_and_has_half_of_the_slots_at_most():
    async with World(slots=2) as world:
        world.gate.clear()
        bulk = [world.asking(f"bulk {n}", engine=world.model.bulk) for n in range(3)]
        await until(lambda: world.order == ["bulk 0"])
        questions = [world.asking(f"question {n}") for n in range(2)]
        await until(lambda: world.model.state().waiting == 3)
        world.gate.set()
        await asyncio.gather(*bulk, *questions)
        assert world.order[:2] == ["bulk 0", "question 0"]
        assert world.order.index("question 1") < world.order.index("bulk 1")


@run
async def test_a_long_wait_starts_another_replica_and_idleness_ends_it():
    async with World(slots=1, max_replicas=2, scale_after_s=1, idle_s=60) as world:
        world.gate.clear()
        asked = [world.asking(str(n)) for n in range(3)]
        await until(lambda: world.model.state().waiting == 2)
        await world.model.tick()
        assert world.starts == 1
        world.now += 1.5
        await world.model.tick()
        await until(lambda: len(world.order) == 2)
        world.now += 1.5
        await world.model.tick()
        assert world.starts == 2
        world.gate.set()
        await asyncio.gather(*asked)
        world.now += 61
        await world.model.tick()
        assert len(world.model.state().replicas) == 1


@run
async def test_replicas_share_the_load_and_a_prompt_goes_where_its_beginning_is_known():
    async with World(min_replicas=2, max_replicas=2, slots=8) as world:
        await asyncio.gather(*(world.ask(f"{n} differs") for n in range(6)))
        assert [engine.asked for engine in world.engines] == [3, 3]
        before = [engine.asked for engine in world.engines]
        for _ in range(4):
            await world.ask("the same beginning")
        after = [
            now - then for now, then in zip((e.asked for e in world.engines), before, strict=True)
        ]
        assert sorted(after) == [0, 4]
        world.gate.clear()
        many = [world.asking("the same beginning") for _ in range(8)]
        await until(lambda: sum(e.asked for e in world.engines) == sum(before) + 12)
        assert all(
            engine.asked > then + 1 for engine, then in zip(world.engines, before, strict=True)
        )
        world.gate.set()
        await asyncio.gather(*many)


@run
async def test_unloading_lets_what_is_under_way_end_and_takes_no_more():
    async with World(slots=2) as world:
        world.gate.clear()
        under_way = world.asking("first")
        await until(lambda: world.order == ["first"])
        unloading = asyncio.create_task(world.model.unload())
        await until(lambda: world.model.state().state == "draining")
        later = world.asking("later")
        await until(lambda: world.starts == 2)
        assert not unloading.done()
        world.gate.set()
        assert await asyncio.gather(under_way, later) == ["ok", "ok"]
        await unloading
        assert (world.engines[0].closed, world.engines[1].closed) == (True, False)


@run
async def test_an_engine_that_fails_again_and_again_is_left_alone_and_tried_now_and_then():
    script = [Fault("die")] * 3 + [Fault("die"), "well"]
    limits = {"breaker": BreakerLimits(failures=3, open_s=2)}
    async with World(script, **limits) as world:
        for _ in range(3):
            with pytest.raises(EngineDied):
                await world.ask()
        assert world.model.state().state == "failed"
        with pytest.raises(CircuitOpen, match=r"m failed 3 times in a row .* in 2\.0 s") as open_:
            await world.ask()
        assert open_.value.retry_after_s == 2
        world.now += 2.1
        with pytest.raises(EngineDied):
            await world.ask()
        with pytest.raises(CircuitOpen):
            await world.ask()
        world.now += 2.1
        assert await world.ask() == "well"
        assert world.model.state().state == "ready"


@run
async def test_refusals_do_not_open_the_circuit():
    async with World([Fault("refuse")], breaker=BreakerLimits(failures=1)) as world:
        for _ in range(3):
            with pytest.raises(EngineRefused):
                await world.ask()


@run
async def test_a_hanging_engine_is_a_timeout_of_the_whole_request():
    async with World([Fault("hang")]) as world:
        with pytest.raises(EngineTimeout, match=r"m did not finish within 0\.2 s"):
            await world.ask(timeout_s=0.2)
        assert world.model.state().replicas[0].in_flight == 0


@run
async def test_closing_ends_who_waits():
    world = World(min_replicas=0, comes_up=False)
    waiting = world.asking()
    await until(lambda: world.model.state().waiting == 1)
    await world.model.close()
    with pytest.raises(EngineUnavailable, match="m was closed"):
        await waiting
    with pytest.raises(EngineUnavailable, match="m was closed"):
        await world.ask()
