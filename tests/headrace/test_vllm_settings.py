"""What headrace.yaml may tell vLLM."""

import pytest
from pydantic import ValidationError

from headrace.model_settings import VllmModel


def model(*arguments: str) -> VllmModel:
    return VllmModel(task="generation", engine="vllm", weights="w", extra_arguments=arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "1"),
        ("--host=0.0.0.0",),
        ("--hos", "0.0.0.0"),
        ("--api_key", "k"),
        ("--x", "1", "--served_model_name=y"),
        ("--config", "more.yaml"),
        ("--x", "-q"),
        ("-q", "awq"),
        ("stray",),
        ("--",),
    ],
)
def test_options_of_ours_are_refused_in_every_spelling(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="extra_arguments"):
        model(*arguments)


def test_other_options_and_their_values_are_passed_on() -> None:
    arguments = ("--enforce-eager", "--seed", "-1", "--hf_overrides", '{"a": 1}', "--block-size=16")
    assert model(*arguments).extra_arguments == arguments
