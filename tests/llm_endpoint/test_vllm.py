"""How vLLM is found and started; a real one runs in tests/components."""

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from llm_endpoint.conversion import convert_gguf
from llm_endpoint.engine_install import install_vllm
from llm_endpoint.errors import (
    ConversionFailed,
    EngineInstallFailed,
    EngineMissing,
    EngineUnavailable,
    WeightsMissing,
)
from llm_endpoint.generation.protocol import SleepingEngine
from llm_endpoint.generation.vllm import VllmGenerator, VllmOptions, find_vllm

# Stands in for `vllm`: writes what it was started with where the test looks.
_PROGRAM = """#!{python}
import json, os, pathlib, sys
names = ("VLLM_API_KEY", "VLLM_CPU_KVCACHE_SPACE", "VLLM_SERVER_DEV_MODE", "PYTHONPATH")
told = {{"argv": sys.argv[1:], "environment": {{n: os.environ.get(n) for n in names}}}}
out = pathlib.Path({out!r})
out.with_suffix(".part").write_text(json.dumps(told))
out.with_suffix(".part").replace(out)
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Starts an engine with these options and returns what its program was told."""

    program, out = tmp_path / "vllm", tmp_path / "told.json"
    program.write_text(_PROGRAM.format(python=sys.executable, out=str(out)))
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", "/somewhere")

    def start(options):
        engine = VllmGenerator(
            program, str(tmp_path), model="m", weights_sha256=None, context_tokens=1024,
            log_file=tmp_path / "log", options=options,
        )  # fmt: skip
        engine.start()
        deadline = time.monotonic() + 30
        while not out.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "not ready" in str(engine.unavailable(1))
        asyncio.run(engine.close())
        return json.loads(out.read_text())

    return start


def option(argv, name):
    return argv[argv.index(name) + 1]


def test_on_a_card_it_is_told_its_share_and_may_sleep(told):
    options = VllmOptions(
        parallel=8, gpu_memory_utilization=0.3, quantization="awq", can_sleep=True, extra=("--x",)
    )
    said = told(options)
    argv = said["argv"]
    assert argv[0] == "serve"
    assert option(argv, "--host") == "127.0.0.1"
    assert option(argv, "--served-model-name") == "m"
    assert (option(argv, "--max-model-len"), option(argv, "--max-num-seqs")) == ("1024", "8")
    assert option(argv, "--gpu-memory-utilization") == "0.3000"
    assert option(argv, "--quantization") == "awq"
    assert "--enable-sleep-mode" in argv
    assert argv[-1] == "--x"
    environment = said["environment"]
    assert environment["VLLM_SERVER_DEV_MODE"] == "1"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] is None
    assert len(environment["VLLM_API_KEY"]) > 30
    assert not any(environment["VLLM_API_KEY"] in part for part in argv)
    assert environment["PYTHONPATH"] == ""


def test_on_a_cpu_its_cache_is_bounded_and_it_does_not_sleep(told):
    said = told(VllmOptions(cache_gib=3))
    assert said["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert said["environment"]["VLLM_SERVER_DEV_MODE"] is None
    assert "--gpu-memory-utilization" not in said["argv"]
    assert "--enable-sleep-mode" not in said["argv"]


def test_an_engine_that_is_not_up_neither_sleeps_nor_wakes(tmp_path):
    engine = VllmGenerator(
        tmp_path / "vllm", str(tmp_path), model="m", weights_sha256=None, context_tokens=1024,
        log_file=tmp_path / "log", options=VllmOptions(can_sleep=True),
    )  # fmt: skip
    assert isinstance(engine, SleepingEngine)
    assert (engine.can_sleep, engine.is_asleep) == (True, False)
    with pytest.raises(EngineUnavailable, match="m is not up"):
        asyncio.run(engine.sleep())


def test_it_is_found_by_setting_variable_installation_and_path_in_that_order(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADRACE_VLLM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(EngineMissing, match=r"install-engine vllm"):
        find_vllm(None, tmp_path)

    def program(*parts):
        file = tmp_path.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o755)
        return file

    on_path = program("path", "vllm")
    assert find_vllm(None, tmp_path) == on_path
    installed = program("vllm", "bin", "vllm")
    assert find_vllm(None, tmp_path) == installed
    monkeypatch.setenv("HEADRACE_VLLM", str(program("other")))
    assert find_vllm(None, tmp_path) == tmp_path / "other"
    assert find_vllm(on_path, tmp_path) == on_path
    with pytest.raises(EngineMissing, match="absent is not a file"):
        find_vllm(tmp_path / "absent", tmp_path)


def test_weights_that_are_not_there_and_a_converter_that_fails_are_named(tmp_path):
    with pytest.raises(WeightsMissing, match="nowhere"):
        VllmGenerator(
            tmp_path, str(tmp_path / "nowhere"), model="m", weights_sha256=None,
            context_tokens=1024, log_file=tmp_path / "log",
        )  # fmt: skip
    with pytest.raises(WeightsMissing, match=r"m\.gguf"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "out", python=Path(sys.executable), name="m")
    (tmp_path / "m.gguf").touch()
    with pytest.raises(ConversionFailed, match="transformers"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "out", python=Path(sys.executable), name="m")
    assert not list(tmp_path.glob("*out*"))


def test_an_installation_that_fails_says_at_which_step(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    steps = []
    with pytest.raises(EngineInstallFailed, match=r"installing torch==2\.13\.0"):
        install_vllm(tmp_path / "engine", cpu=True, on_step=steps.append)
    assert steps == ["making the environment", "installing torch==2.13.0"]
