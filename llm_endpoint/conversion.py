"""GGUF weights as safetensors, which is what vLLM reads; done in vLLM's own environment."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from llm_endpoint.errors import ConversionFailed, WeightsMissing

_SCRIPT = Path(__file__).with_name("conversion_child.py")
_TAIL_CHARACTERS = 800


def convert_gguf(source: Path, target: Path, *, python: Path, name: str) -> Path:
    """The folder `target` with config, tokenizer and float32 safetensors of the GGUF file.

    Quantised weights are as exact as they were: what was lost is not found again. A folder that is
    there already is left as it is. Raises WeightsMissing, ConversionFailed.
    """
    if (target / "model.safetensors").is_file():
        return target
    if not source.is_file():
        raise WeightsMissing(source)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    command = (str(python), str(_SCRIPT), str(source), str(part))
    environment = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        raise ConversionFailed(source, (done.stdout + done.stderr)[-_TAIL_CHARACTERS:])
    (part / "converted_from.json").write_text(json.dumps({"model": name, "file": source.name}))
    part.replace(target)
    return target
