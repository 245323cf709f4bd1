"""One contract for every generator; vLLM keeps to it in tests/components."""

from collections.abc import Iterator

import pytest
from generator_contract import *  # noqa: F403 - the tests themselves

from llm_endpoint.generation import Generator, ScriptedGenerator


@pytest.fixture(params=["scripted", "llama.cpp"])
def generator(request: pytest.FixtureRequest) -> Iterator[Generator]:
    if request.param == "scripted":
        yield ScriptedGenerator(["Red, green and blue are three colours."], context_tokens=512)
    else:
        yield request.getfixturevalue("shared_llama")
