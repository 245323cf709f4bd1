"""An endpoint over served models: who answers, who does instead, and how much it may."""

import asyncio
import itertools
from contextlib import aclosing

import pytest

from llm_endpoint.errors import EngineBusy, EngineDied, EngineRefused, EngineTimeout
from llm_endpoint.generation import Fault, GenerationRequest, Message, ScriptedGenerator
from llm_endpoint.serving.endpoint import Endpoint, Shadow, Share, Traffic
from llm_endpoint.serving.limits import ServingLimits
from llm_endpoint.serving.provision import Provision
from llm_endpoint.serving.served_model import ServedModel

BODY = {"messages": [{"role": "user", "content": "hello"}]}


def model(name, *replies, **limits):
    script = list(replies) or [name]
    return ServedModel(
        name,
        lambda: ScriptedGenerator(script, model=name, context_tokens=len(name) * 100),
        ServingLimits(**limits),
    )


def chances(*values):
    return itertools.cycle(values).__next__


async def said(engine, text="hello", **options):
    request = GenerationRequest((Message("user", text),), max_tokens=9, **options)
    return (await engine.generate(request)).text


def run(scenario):
    def test():
        asyncio.run(asyncio.wait_for(scenario(), 60))

    test.__name__ = scenario.__name__
    return test


@run
async def test_requests_are_shared_by_their_percentages():
    chance = chances(*(n / 100 for n in range(100)))
    endpoint = Endpoint("e", Traffic([Share(model("a"), 90), Share(model("b"), 10)]), chance=chance)
    answers = [await said(endpoint) for _ in range(100)]
    assert (answers.count("a"), answers.count("b")) == (90, 10)
    assert endpoint.state().requests == {"a": 90, "b": 10}
    assert (endpoint.info.model, endpoint.info.context_tokens) == ("e", 100)


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="add up to 90, not to 100"):
        Traffic([Share(model("a"), 90)])


@run
async def test_another_answers_where_one_failed_before_its_first_word():
    first, second = model("a", Fault("die")), model("b", Fault("garbage"))
    kinds = ("died", "invalid")
    traffic = Traffic([Share(first, 100)], (second, model("c")), fall_back_on=kinds)
    endpoint = Endpoint("e", traffic)
    assert await said(endpoint) == "c"
    assert b'"c"' in await endpoint.ask("chat/completions", BODY, timeout_s=9)
    assert endpoint.state().fallen_back == 4


@run
async def test_what_was_said_cannot_be_taken_back():
    endpoint = Endpoint(
        "e", Traffic([Share(model("a", Fault("die", "half an")), 100)], (model("b"),))
    )
    request = GenerationRequest((Message("user", "x"),), max_tokens=9)
    heard = []

    async def listen():
        async with aclosing(endpoint.stream(request)) as deltas:
            async for delta in deltas:
                heard.append(delta.text)

    with pytest.raises(EngineDied):
        await listen()
    assert "".join(heard) == "half an"
    # Nothing was said of this one: `generate` gives it out whole or not at all.
    assert await said(endpoint) == "b"


@run
async def test_a_refusal_is_the_clients_to_mend():
    endpoint = Endpoint("e", Traffic([Share(model("a", Fault("refuse")), 100)], (model("b"),)))
    with pytest.raises(EngineRefused):
        await said(endpoint)
    assert endpoint.state().fallen_back == 0


@run
async def test_the_last_error_is_the_answer_where_everybody_failed():
    endpoint = Endpoint(
        "e", Traffic([Share(model("a", Fault("die")), 100)], (model("b", Fault("die")),))
    )
    with pytest.raises(EngineDied, match="b died"):
        await said(endpoint)


@run
async def test_another_is_asked_when_patience_ends_and_nobody_when_the_request_does():
    shares = [Share(model("a", Fault("hang")), 100)]
    patient = Endpoint("e", Traffic(shares, (model("b"),)))
    with pytest.raises(EngineTimeout, match=r"a did not finish within 0\.2 s"):
        await said(patient, timeout_s=0.2)
    hurried = Endpoint("e", Traffic(shares, (model("b"),), patience_s=0.1))
    assert await said(hurried) == "b"


@run
async def test_a_shadow_is_asked_the_same_and_never_heard():
    shadow = model("shadow", "x", Fault("die"))
    traffic = Traffic([Share(model("a"), 100)], shadow=Shadow(shadow, 50))
    endpoint = Endpoint("e", traffic, chance=chances(0.1, 0.0, 0.9, 0.0))
    for _ in range(4):
        assert await said(endpoint) == "a"
        await asyncio.sleep(0.01)
    state = endpoint.state()
    assert (state.shadowed, state.shadow_failures, state.requests) == (2, 1, {"a": 4})
    await endpoint.close()


@run
async def test_a_slow_shadow_is_dropped_and_holds_nobody_up():
    traffic = Traffic([Share(model("a"), 100)], shadow=Shadow(model("s", Fault("hang")), 100))
    endpoint = Endpoint("e", traffic)
    for _ in range(6):
        assert await said(endpoint) == "a"
    assert (endpoint.state().shadowed, endpoint.state().shadow_dropped) == (4, 2)
    await endpoint.close()


@run
async def test_no_more_are_answered_at_once_than_the_endpoint_may():
    endpoint = Endpoint("e", Traffic([Share(model("a", Fault("hang")), 100)], max_concurrency=1))
    hanging = asyncio.create_task(said(endpoint))
    await asyncio.sleep(0)
    assert endpoint.state().in_flight == 1
    with pytest.raises(EngineBusy, match="e is busy"):
        await said(endpoint)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert endpoint.state().in_flight == 0


@run
async def test_a_provision_without_bursts_refuses_until_it_has_filled_again():
    now = [0.0]
    traffic = Traffic([Share(model("a", "one two three"), 100)], provision=Provision(2.0, False))
    endpoint = Endpoint("e", traffic, clock=lambda: now[0])
    # 1 token of prompt and 3 of answer: a bucket of 4 is empty after it, and below after two.
    assert await said(endpoint) == await said(endpoint) == "one two three"
    with pytest.raises(EngineBusy) as refused:
        await said(endpoint)
    assert refused.value.retry_after_s == 2
    now[0] += 2.5
    assert await said(endpoint) == "one two three"


@run
async def test_what_is_provided_for_goes_before_what_bursts():
    now = [0.0]
    shared = model("a", "one two three", slots=1)
    provided = Endpoint("p", Traffic([Share(shared, 100)], provision=Provision(100.0)))
    traffic = Traffic([Share(shared, 100)], provision=Provision(0.1))
    bursting = Endpoint("b", traffic, clock=lambda: now[0])
    await said(bursting)
    done = []

    async def note(endpoint, name):
        await said(endpoint)
        done.append(name)

    async with asyncio.TaskGroup() as tasks:
        for endpoint, name in ((bursting, "first"), (bursting, "burst"), (provided, "provided")):
            tasks.create_task(note(endpoint, name))
    assert done == ["first", "provided", "burst"]
