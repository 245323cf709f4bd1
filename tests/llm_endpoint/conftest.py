"""A real SmolLM2 child, shared by the tests that do not kill it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_endpoint import find_card
from llm_endpoint.generation.llama_cpp import LlamaCppGenerator

Build = Callable[[], LlamaCppGenerator]


@pytest.fixture(scope="session")
def build_llama(weights_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Makes generators of 512 tokens and two slots, not started."""
    card = find_card("smollm2-135m-instruct-q4_1")

    def build() -> LlamaCppGenerator:
        return LlamaCppGenerator(
            weights_dir / card.name / card.main_file,
            model="smollm2",
            weights_sha256=card.weights_sha256,
            context_tokens=512,
            parallel=2,
            log_file=tmp_path_factory.mktemp("engine") / "engine.log",
        )

    return build


@pytest.fixture(scope="session")
def shared_llama(build_llama: Build) -> Iterator[LlamaCppGenerator]:
    generator = build_llama()
    generator.start()
    generator.wait_ready(60)
    yield generator
    asyncio.run(generator.close())


@pytest.fixture
def own_llama(build_llama: Build) -> Iterator[LlamaCppGenerator]:
    """For tests that kill it."""
    generator = build_llama()
    generator.start()
    generator.wait_ready(60)
    yield generator
    asyncio.run(generator.close())
