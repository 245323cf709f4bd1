"""What the models and indexes of headrace.yaml need, and whether they fit."""

from collections.abc import Mapping

from headrace.model_files import weights_of
from headrace.model_settings import (
    LlamaCppModel,
    ModelSection,
    OnnxModel,
    SentenceTransformersModel,
    VllmModel,
)
from headrace.settings import Settings
from headrace.vllm import vllm_device, vllm_weights_bytes
from llm_endpoint.embedding.server import LANES
from llm_endpoint.generation.gguf import cache_bytes_per_token
from llm_endpoint.serving.machine import this_cpu
from llm_endpoint.serving.planner import Device, Need, Plan, plan

_MB = 1_000_000
# Measured with the default models: what a process takes beyond weights and cache.
_ENGINE_BYTES = 120 * _MB
_ONNX_BYTES = 60 * _MB
_TORCH_BYTES = 400 * _MB
_VLLM_BYTES = 1500 * _MB
# llm_endpoint/generation/llama_child.py keeps old prompts' states up to this size.
_PROMPT_CACHE_BYTES = 512 << 20


def plan_of(settings: Settings) -> Plan:
    """Who runs where, of all that runs on this machine. Raises ImpossiblePlan, WeightsMissing."""
    needs = [
        need
        for name, section in settings.models.items()
        if (need := _need(settings, name, section)) is not None
    ]
    return plan(_devices(settings), needs + _indexes(settings))


def _devices(settings: Settings) -> list[Device]:
    section, here = settings.devices, this_cpu()
    memory = here.memory_bytes if section.memory_mb is None else section.memory_mb * _MB
    cpu = Device("cpu", memory, section.cores or here.cores)
    cards = [Device(f"gpu{number}", card.memory_mb * _MB) for number, card in section.gpus.items()]
    return [cpu, *cards]


def _need(settings: Settings, name: str, section: ModelSection) -> Need | None:
    """None for a model that runs elsewhere, or inside another."""
    if isinstance(section, OnnxModel):
        file = weights_of(settings, section.weights, "*.onnx").file
        parts = {"weights": LANES * file.stat().st_size, "engine": LANES * _ONNX_BYTES}
        return Need(name, "model", "cpu", parts, section.threads)
    if isinstance(section, SentenceTransformersModel):
        size = LANES * weights_of(settings, section.weights, "*.safetensors").file.stat().st_size
        is_on_card = section.device == "cuda" or (section.device is None and settings.devices.gpus)
        device = None if is_on_card else "cpu"
        return Need(name, "model", device, {"weights": size, "engine": LANES * _TORCH_BYTES})
    if isinstance(section, LlamaCppModel):
        file = weights_of(settings, section.weights, "*.gguf").file
        tokens = section.context_tokens * section.parallel
        parts = {
            "weights": file.stat().st_size,
            "cache": tokens * cache_bytes_per_token(file),
            "prompts": _PROMPT_CACHE_BYTES,
            "engine": _ENGINE_BYTES,
        }
        replicas = section.serving.max_replicas
        return Need(name, "model", "cpu", parts, section.threads, replicas)
    if isinstance(section, VllmModel):
        return _vllm_need(settings, name, section)
    return None


def _vllm_need(settings: Settings, name: str, section: VllmModel) -> Need:
    """Weights and cache, or what the settings say; on a card its stated share."""
    device = vllm_device(settings, section)
    replicas = section.serving.max_replicas
    if section.memory_mb is not None:
        return Need(name, "model", device, {"stated": section.memory_mb * _MB}, 0, replicas)
    weights = vllm_weights_bytes(settings, section)
    card = settings.devices.gpus.get(int(device[3:])) if device and device != "cpu" else None
    if section.gpu_memory_utilization is not None and card is not None:
        share = int(section.gpu_memory_utilization * card.memory_mb * _MB)
        return Need(name, "model", device, {"stated": share}, 0, replicas)
    parts = {"weights": weights, "cache": section.cache_gib << 30, "engine": _VLLM_BYTES}
    return Need(name, "model", device, parts, 0, replicas)


def _indexes(settings: Settings) -> list[Need]:
    """What indexes may copy to cards. In memory they are mapped files, which the system lets go."""
    known = {f"gpu{number}" for number in settings.devices.gpus}
    budgets: Mapping[str, int] = {
        f"gpu{number}": card.memory_mb * _MB for number, card in settings.gpus.items()
    }
    return [
        Need("all indexes there", "index", device, {"vectors": size})
        for device, size in budgets.items()
        if device in known
    ]
