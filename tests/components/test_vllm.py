"""A real `vllm serve` on the CPU, under our supervisor, and the contract of every generator.

Needs an environment of its own, named by HEADRACE_VLLM: `make test-components` makes it with
`headrace models install-engine vllm --cpu`.
"""

import asyncio
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from generator_contract import *  # noqa: F403 - the tests themselves

from llm_endpoint import find_card, pull
from llm_endpoint.conversion import convert_gguf
from llm_endpoint.errors import EngineDied, EngineFailed
from llm_endpoint.generation import GenerationRequest, Message
from llm_endpoint.generation.vllm import VllmGenerator, VllmOptions

NAME = "smollm2-135m-instruct-q4_1"
EXECUTABLE = Path(os.environ["HEADRACE_VLLM"])
LONG = GenerationRequest((Message("user", "Tell a very long story about a river."),), 400)
SHORT = GenerationRequest((Message("user", "Say hello."),), 4)
START_S = 300


@pytest.fixture(scope="module")
def vllm(weights_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmGenerator]:
    card = find_card(NAME)
    source = pull(card, weights_dir) / card.main_file
    folder = weights_dir / f"{NAME}-safetensors"
    convert_gguf(source, folder, python=EXECUTABLE.with_name("python"), name=NAME)
    generator = VllmGenerator(
        EXECUTABLE,
        str(folder),
        model="smollm2",
        weights_sha256=None,
        context_tokens=512,
        log_file=tmp_path_factory.mktemp("vllm") / "engine.log",
        options=VllmOptions(parallel=4, cache_gib=1, extra=("--enforce-eager",)),
    )
    generator.start()
    generator.wait_ready(START_S)
    yield generator
    tree = family(generator)
    asyncio.run(generator.close())
    until(lambda: not living(tree))


@pytest.fixture
def generator(vllm: VllmGenerator) -> VllmGenerator:
    """What the contract asks for."""
    return vllm


def family(generator: VllmGenerator) -> list[psutil.Process]:
    assert generator.pid is not None
    process = psutil.Process(generator.pid)
    return [process, *process.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still hold memory: a zombie waits for a parent that may never look."""
    return [
        process
        for process in processes
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def metric(generator: VllmGenerator, name: str) -> float:
    endpoint = generator.endpoint
    assert endpoint is not None
    with urllib.request.urlopen(f"{endpoint.address}/metrics", timeout=30) as answer:
        shown = answer.read().decode()
    (value,) = re.findall(rf"^vllm:{name}{{[^}}]*}} (\S+)$", shown, re.MULTILINE)
    return float(value)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_leaving_a_stream_or_an_answer_frees_the_request(vllm: VllmGenerator) -> None:
    async def leave() -> None:
        async with aclosing(vllm.stream(LONG)) as deltas:
            await anext(deltas)
            assert await asyncio.to_thread(metric, vllm, "num_requests_running") == 1
        await asyncio.to_thread(until, lambda: metric(vllm, "num_requests_running") == 0)
        whole = asyncio.create_task(vllm.generate(LONG))
        await asyncio.to_thread(until, lambda: metric(vllm, "num_requests_running") == 1)
        whole.cancel()
        await asyncio.gather(whole, return_exceptions=True)

    asyncio.run(leave())
    until(lambda: metric(vllm, "num_requests_running") == 0)


def test_a_prompt_asked_again_hits_the_cache_of_prefixes(vllm: VllmGenerator) -> None:
    request = GenerationRequest((Message("user", "the same beginning " * 100),), 2)
    asyncio.run(vllm.generate(request))
    before = metric(vllm, "prefix_cache_hits_total")
    asyncio.run(vllm.generate(request))
    assert metric(vllm, "prefix_cache_hits_total") - before >= 128


def test_a_build_for_cpus_does_not_sleep_and_says_so(vllm: VllmGenerator) -> None:
    assert not vllm.can_sleep
    with pytest.raises(EngineFailed, match="404"):
        asyncio.run(vllm.sleep())
    assert not vllm.is_asleep


def test_a_killed_engine_is_an_error_to_who_listens_and_comes_back(vllm: VllmGenerator) -> None:
    old = family(vllm)

    async def listen() -> None:
        async with aclosing(vllm.stream(LONG)) as deltas:
            await anext(deltas)
            assert vllm.pid is not None
            os.kill(vllm.pid, signal.SIGKILL)
            async for _ in deltas:
                pass

    with pytest.raises(EngineDied):
        asyncio.run(listen())
    # What it had started goes with it: a worker left behind would keep the memory.
    until(lambda: not living(old))
    vllm.wait_ready(START_S)
    assert asyncio.run(vllm.generate(SHORT)).text
    assert vllm.restarts >= 1
