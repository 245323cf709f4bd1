"""The engine that goes wrong on order, as the client of every remote engine sees it."""

import asyncio

import pytest

from llm_endpoint.errors import (
    EngineAnswerInvalid,
    EngineBusy,
    EngineDied,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from llm_endpoint.generation import GenerationRequest, Message
from llm_endpoint.generation.faulty import Behaviour, FaultyEngine
from llm_endpoint.generation.openai import OpenAIGenerator

ASK = GenerationRequest((Message("user", "hi"),), max_tokens=4, timeout_s=0.3)


async def with_engine(use):
    engine = FaultyEngine()
    await engine.start()
    client = OpenAIGenerator(engine.base_url, "faulty")
    try:
        return await use(engine, client)
    finally:
        await client.close()
        await engine.close()


async def ask(client, streams):
    if streams:
        return [delta async for delta in client.stream(ASK)]
    return await client.generate(ASK)


async def until(is_so):
    while not is_so():  # noqa: ASYNC110 - what is waited for is in the engine, which has no event
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("refuse", EngineUnavailable),
        ("reject", EngineRefused),
        ("busy", EngineBusy),
        ("fail", EngineFailed),
        ("hang", EngineTimeout),
        ("slow", EngineTimeout),
        ("stall", EngineTimeout),
        ("die", EngineDied),
        ("garbage", EngineAnswerInvalid),
    ],
)
def test_every_fault_is_the_error_of_its_kind_and_a_healed_engine_answers(mode, error, streams):
    async def use(engine, client):
        await engine.behave(Behaviour(mode, slow_s=9.0))
        with pytest.raises(error):
            await ask(client, streams)
        await engine.behave(Behaviour())
        return await client.generate(ASK)

    assert asyncio.run(with_engine(use)).text == "word word word word "


def test_it_knows_the_requests_it_works_on_and_sees_clients_leave():
    async def use(engine, client):
        await engine.behave(Behaviour("hang"))
        asking = asyncio.ensure_future(client.generate(ASK))
        await until(lambda: engine.state()["open"] == 1)
        asking.cancel()
        await until(lambda: engine.state()["open"] == 0)
        return engine.state()

    state = asyncio.run(asyncio.wait_for(with_engine(use), 30))
    assert (state["mode"], state["abandoned"], state["finished"]) == ("hang", 1, 0)
