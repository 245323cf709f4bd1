"""Our encoder over sentence-transformers against its own encode, on the CPU."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from llm_endpoint import find_card, pull

REFERENCE = Path(__file__).with_name("sentence_transformers_reference.py")
ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["", "naïve 日本語 🙂", "word " * 900, *(f"csv line {n} " * (n % 9 + 1) for n in range(40))]


def test_vectors_are_those_of_sentence_transformers_itself(
    weights_dir: Path, tmp_path: Path
) -> None:
    python = os.environ.get("HEADRACE_ST_PYTHON")
    if not python:
        pytest.fail("HEADRACE_ST_PYTHON is not set; run `make test-components`")
    folder = pull(find_card("all-minilm-l6-v2"), weights_dir)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    subprocess.run(
        [python, str(REFERENCE), str(folder), str(tmp_path / "texts.json"),
         str(tmp_path / "report.json")],
        check=True,
        timeout=600,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["cosine"] > 0.9999
    assert report["bulk"] > 0.9999
    assert report["ids"] > 0.9999
    assert (report["dim"], report["max_tokens"]) == (384, 256)
    assert all(mine == theirs for mine, theirs in report["tokens"])
    assert report["refused"].startswith("WeightsUnreadable")
