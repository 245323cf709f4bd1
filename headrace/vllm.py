"""vLLM models of headrace.yaml: where their engine is, what it is told, what it takes."""

from pathlib import Path

from headrace.model_settings import VllmModel
from headrace.settings import Settings
from llm_endpoint import CATALOGUE
from llm_endpoint.errors import WeightsMissing
from llm_endpoint.generation import TextEngine
from llm_endpoint.generation.vllm import VllmGenerator, VllmOptions, find_vllm


def engines_dir(settings: Settings) -> Path:
    """Where `headrace models install-engine` puts engines."""
    return settings.state_dir / "engines"


def converted_folder(settings: Settings, model: str) -> Path:
    """Where `headrace models convert` puts a catalogue model."""
    return settings.weights / f"{model}-safetensors"


def vllm_weights(settings: Settings, section: VllmModel) -> Path:
    """The folder that vLLM reads. Raises WeightsMissing, naming what is to be done."""
    if any(card.name == section.weights for card in CATALOGUE):
        folder = converted_folder(settings, section.weights)
        if not folder.is_dir():
            raise WeightsMissing(folder, fix=f"run `headrace models convert {section.weights}`")
        return folder
    folder = Path(section.weights).expanduser()
    if not folder.is_dir():
        raise WeightsMissing(folder)
    return folder


def vllm_weights_bytes(settings: Settings, section: VllmModel) -> int:
    """Of all files with weights. Raises WeightsMissing."""
    folder = vllm_weights(settings, section)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def find_executable(settings: Settings, section: VllmModel | None = None) -> Path:
    """`vllm` itself, for a model or in general. Raises EngineMissing."""
    named = None if section is None or section.executable is None else Path(section.executable)
    return find_vllm(named, engines_dir(settings))


def vllm_device(settings: Settings, section: VllmModel) -> str | None:
    """By name; None for the card with most room."""
    if section.device is not None:
        return section.device
    return None if settings.devices.gpus else "cpu"


def build_vllm(settings: Settings, name: str, section: VllmModel) -> TextEngine:
    """The engine, not started. Raises EngineMissing, WeightsMissing."""
    is_on_card = vllm_device(settings, section) != "cpu"
    log_file = settings.state_dir / "logs" / f"{name}.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    return VllmGenerator(
        find_executable(settings, section),
        str(vllm_weights(settings, section)),
        model=name,
        weights_sha256=None,
        context_tokens=section.context_tokens,
        log_file=log_file,
        options=VllmOptions(
            parallel=section.parallel,
            gpu_memory_utilization=_share(settings, name, section) if is_on_card else None,
            cache_gib=section.cache_gib,
            dtype=section.dtype,
            quantization=section.quantization,
            can_sleep=is_on_card and section.serving.idle_s is not None,
            extra=section.extra_arguments,
        ),
    )


def _share(settings: Settings, name: str, section: VllmModel) -> float:
    """Of the card: as stated, or as planned for one replica."""
    if section.gpu_memory_utilization is not None:
        return section.gpu_memory_utilization
    from headrace.planning import plan_of

    placement = plan_of(settings).of(name)
    assert placement is not None
    return placement.share / placement.need.replicas
