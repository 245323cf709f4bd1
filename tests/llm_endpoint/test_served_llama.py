"""A served model over real llama.cpp children: started once, drained, killed, gone when idle."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import psutil

from llm_endpoint.generation import GenerationRequest, Message
from llm_endpoint.generation.llama_cpp import LlamaCppGenerator
from llm_endpoint.serving.limits import ServingLimits
from llm_endpoint.serving.served_model import ServedModel

Build = Callable[[], LlamaCppGenerator]
LONG = GenerationRequest((Message("user", "Tell me a very long story about a river."),), 300)
SHORT = GenerationRequest((Message("user", "Say hello."),), 4)


class Clock:
    """Its hands are moved by the test."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def served(build: Build, clock: Clock) -> ServedModel:
    limits = ServingLimits(min_replicas=0, slots=2, idle_s=60, queue=16)
    return ServedModel("smollm2", build, limits, clock=clock)


def engines() -> dict[int, int]:
    """Bytes in memory of every child of this process, by process id."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            found[child.pid] = child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return found


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def pids(model: ServedModel) -> list[int | None]:
    return [replica.pid for replica in model.state().replicas]


def test_eight_first_requests_start_one_child_whose_memory_comes_back_when_it_is_idle(
    build_llama: Build,
) -> None:
    async def story() -> None:
        clock = Clock()
        model = served(build_llama, clock)
        before = engines()
        assert model.state().state == "stopped"

        answers = await asyncio.gather(*(model.generate(SHORT) for _ in range(8)))
        assert all(answer.usage.completion_tokens for answer in answers)
        new = {pid: size for pid, size in engines().items() if pid not in before}
        [pid] = pids(model)
        assert pid in new
        assert sum("llama_child" in " ".join(psutil.Process(p).cmdline()) for p in new) == 1
        assert sum(new.values()) > 100_000_000

        clock.now += 59
        await model.tick()
        assert pids(model) == [pid]
        clock.now += 2
        await model.tick()
        assert model.state().state == "stopped"
        assert set(engines()) & set(new) == set()

        assert (await model.generate(SHORT)).usage.completion_tokens
        assert pids(model) not in ([pid], [None])
        await model.close()
        assert set(engines()) <= set(before)

    asyncio.run(story())


def test_unloading_under_load_lets_the_answer_end_and_a_new_child_takes_over(
    build_llama: Build,
) -> None:
    async def story() -> None:
        model = served(build_llama, Clock())
        async with aclosing(model.stream(LONG)) as deltas:
            await anext(deltas)
            [first] = pids(model)
            assert first is not None
            unloading = asyncio.create_task(model.unload())
            await until(lambda: model.state().state == "draining")
            later = asyncio.create_task(model.generate(SHORT))
            *_, last = [delta async for delta in deltas]
        assert last.finish_reason is not None
        await unloading
        assert not psutil.pid_exists(first)
        assert (await later).usage.completion_tokens
        [second] = pids(model)
        assert second not in (first, None)
        await model.close()

    asyncio.run(story())


def test_a_child_killed_while_idle_is_back_for_the_next_request(build_llama: Build) -> None:
    async def story() -> None:
        model = served(build_llama, Clock())
        await model.generate(SHORT)
        [pid] = pids(model)
        assert pid is not None
        psutil.Process(pid).kill()
        await until(lambda: model.state().state == "starting")
        # Nobody calls tick: the request itself finds out when the child is up again.
        assert (await model.generate(SHORT)).usage.completion_tokens
        assert pids(model) not in ([pid], [None])
        await model.close()

    asyncio.run(story())
