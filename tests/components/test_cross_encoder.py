"""Our cross-encoder against CrossEncoder.predict, in the environment of test_embedding_parity."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_endpoint import find_card

REFERENCE = Path(__file__).with_name("cross_encoder_reference.py")
ROOT = Path(__file__).resolve().parents[2]
QUESTION = "How do I read a CSV file?"
# More than a batch of 32, of mixed lengths (both sort by length inside), one past the 128 tokens.
TEXTS = ["", "naïve 日本語 🙂", "word " * 900, *(f"csv line {n} " * (n % 9 + 1) for n in range(40))]


@pytest.fixture(scope="module")
def report(weights_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    python = os.environ.get("HEADRACE_ST_PYTHON")
    if not python:
        pytest.fail("HEADRACE_ST_PYTHON is not set; run `make test-components`")
    folder = tmp_path_factory.mktemp("cross_encoder")
    pairs = folder / "pairs.json"
    pairs.write_text(json.dumps({"question": QUESTION, "texts": TEXTS}))
    tokenizer = weights_dir / find_card("all-minilm-l6-v2-int8").name / "tokenizer.json"
    subprocess.run(
        [python, str(REFERENCE), str(tokenizer), str(pairs), str(folder)],
        check=True,
        timeout=600,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )
    read: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return read


def test_scores_are_exactly_those_of_sentence_transformers(report: dict[str, Any]) -> None:
    assert report["ours"] == report["theirs"]
    assert (len(report["ours"]), report["dtype"]) == (len(TEXTS), "float32")
    # Random weights that scored every text alike would prove nothing.
    assert np.std(report["ours"]) > 0.01


def test_the_device_is_the_gpu_if_there_is_one(report: dict[str, Any]) -> None:
    print(f"device {report['device']}")
    assert report["device"] == ("cuda" if report["has_gpu"] else "cpu")


def test_no_texts_give_no_scores(report: dict[str, Any]) -> None:
    assert report["empty"] == [0]


def test_threads_do_not_disturb_each_other(report: dict[str, Any]) -> None:
    assert report["threads_agree"] is True


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("closed", "EngineUnavailable: tiny is closed"),
        ("missing", "WeightsMissing: .*config.json"),
        ("two_labels", "WeightsUnreadable: .*one label, this has 2"),
        ("damaged", "WeightsUnreadable: .*damaged"),
        ("headless", "WeightsUnreadable: .*BertModel.* has no head that scores"),
        ("pickled", "WeightsUnreadable: .*pickled"),
    ],
)
def test_what_cannot_be_used_is_named(report: dict[str, Any], case: str, message: str) -> None:

    assert re.match(message, report[case]), report[case]
