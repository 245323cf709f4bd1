import asyncio
import time

import pytest

from llm_endpoint.errors import (
    EngineAnswerInvalid,
    EngineDied,
    EngineError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from llm_endpoint.generation import Fault, GenerationRequest, Message, ScriptedGenerator

ASK = GenerationRequest((Message("user", "one two"),), max_tokens=50, timeout_s=0.2)


def test_replies_come_in_order_and_start_again() -> None:
    generator = ScriptedGenerator(["a", "b"])
    assert [asyncio.run(generator.generate(ASK)).text for _ in range(3)] == ["a", "b", "a"]


def test_a_function_sees_the_request() -> None:
    generator = ScriptedGenerator(lambda request: request.messages[-1].content.upper())
    assert asyncio.run(generator.generate(ASK)).text == "ONE TWO"


def test_a_word_with_its_white_space_is_a_token() -> None:
    answer = asyncio.run(ScriptedGenerator(["red  green\nblue\n"]).generate(ASK))
    assert answer.text == "red  green\nblue\n"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("hang", EngineTimeout),
        ("die", EngineDied),
        ("refuse", EngineRefused),
        ("garbage", EngineAnswerInvalid),
    ],
)
def test_a_fault_comes_after_its_text(kind: str, error: type[EngineError]) -> None:
    generator = ScriptedGenerator([Fault(kind, "some words")])  # type: ignore[arg-type]
    seen: list[str] = []

    async def read() -> None:
        async for delta in generator.stream(ASK):
            seen.append(delta.text)

    with pytest.raises(error):
        asyncio.run(read())
    assert "".join(seen) == "some words"


def test_a_slow_script_runs_into_the_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(EngineTimeout):
        asyncio.run(ScriptedGenerator(["word " * 50], delay_s=0.02).generate(ASK))
    assert time.monotonic() - started < 0.6


def test_a_closed_one_serves_no_more() -> None:
    generator = ScriptedGenerator(["a"])
    asyncio.run(generator.close())
    with pytest.raises(EngineUnavailable, match="closed"):
        asyncio.run(generator.generate(ASK))


def test_no_replies_are_refused() -> None:
    with pytest.raises(ValueError, match="replies is empty"):
        ScriptedGenerator([])
