"""Open models that a hub has: what we would start with, by task and size.

Licence, precision, parameters and context are as their makers state them, noted from memory in
November 2026 and not checked on the machine that this was written on: read the model's page before
you rely on them. No hashes are pinned; those of what was pulled are noted beside it.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_endpoint.errors import HubUnreachable
from llm_endpoint.weights import sha256_of

_NOTE = "pulled.json"
_ANY = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md",
        "1_Pooling/*", "2_Normalize/*")  # fmt: skip
# Of a weight in each precision; scales and zero points of the quantised ones counted.
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "fp8": 1.05, "awq-int4": 0.62, "q4_k_m": 0.61}


@dataclass(frozen=True, slots=True)
class HubCard:
    """parameters: in 10^9. files: of the repository, as patterns."""

    name: str
    repository: str
    task: Literal["embedding", "generation", "rerank"]
    engine: str
    licence: str
    precision: str
    parameters: float
    max_tokens: int
    files: Sequence[str] = _ANY

    @property
    def size_bytes(self) -> int:
        """Of the weights: parameters times the bytes of each."""
        return int(self.parameters * 1e9 * _BYTES[self.precision])


def _embedder(
    name: str, repository: str, licence: str, parameters: float, max_tokens: int
) -> HubCard:
    return HubCard(
        name, repository, "embedding", "sentence-transformers", licence, "float32", parameters,
        max_tokens,
    )  # fmt: skip


def _reranker(
    name: str, repository: str, licence: str, parameters: float, max_tokens: int
) -> HubCard:
    return HubCard(
        name, repository, "rerank", "cross-encoder", licence, "float32", parameters, max_tokens
    )


def _vllm(
    repository: str, licence: str, parameters: float, max_tokens: int, precision: str = "bfloat16"
) -> HubCard:
    name = repository.partition("/")[2].lower()
    return HubCard(
        name, repository, "generation", "vllm", licence, precision, parameters, max_tokens
    )


def _gguf(repository: str, pattern: str, parameters: float, max_tokens: int) -> HubCard:
    name = f"{repository.partition('/')[2].lower().removesuffix('-gguf')}-q4_k_m"
    return HubCard(
        name, repository, "generation", "llama.cpp", "Apache-2.0", "q4_k_m", parameters,
        max_tokens, (pattern,),
    )  # fmt: skip


HUB_MODELS: tuple[HubCard, ...] = (
    _embedder("bge-small-en-v1.5", "BAAI/bge-small-en-v1.5", "MIT", 0.033, 512),
    _embedder("bge-base-en-v1.5", "BAAI/bge-base-en-v1.5", "MIT", 0.109, 512),
    _embedder("bge-m3", "BAAI/bge-m3", "MIT", 0.568, 8192),
    _embedder("e5-small-v2", "intfloat/e5-small-v2", "MIT", 0.033, 512),
    _embedder("multilingual-e5-base", "intfloat/multilingual-e5-base", "MIT", 0.278, 512),
    _embedder("gte-modernbert-base", "Alibaba-NLP/gte-modernbert-base", "Apache-2.0", 0.149, 8192),
    _embedder("qwen3-embedding-0.6b", "Qwen/Qwen3-Embedding-0.6B", "Apache-2.0", 0.6, 32768),
    _reranker(
        "ms-marco-minilm-l6-v2", "cross-encoder/ms-marco-MiniLM-L6-v2", "Apache-2.0", 0.023, 512
    ),
    _reranker("bge-reranker-base", "BAAI/bge-reranker-base", "MIT", 0.278, 512),
    _reranker("bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3", "Apache-2.0", 0.568, 8192),
    _gguf("Qwen/Qwen2.5-1.5B-Instruct-GGUF", "*q4_k_m.gguf", 1.54, 32768),
    _gguf("Qwen/Qwen2.5-7B-Instruct-GGUF", "*q4_k_m*.gguf", 7.62, 32768),
    _gguf("HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", "*q4_k_m.gguf", 1.71, 8192),
    _vllm("HuggingFaceTB/SmolLM2-1.7B-Instruct", "Apache-2.0", 1.71, 8192),
    _vllm("microsoft/Phi-4-mini-instruct", "MIT", 3.84, 131072),
    _vllm("mistralai/Mistral-7B-Instruct-v0.3", "Apache-2.0", 7.25, 32768),
    _vllm("Qwen/Qwen2.5-7B-Instruct", "Apache-2.0", 7.62, 32768),
    _vllm("Qwen/Qwen2.5-7B-Instruct-AWQ", "Apache-2.0", 7.62, 32768, "awq-int4"),
    _vllm("Qwen/Qwen3-8B", "Apache-2.0", 8.19, 32768),
    _vllm("Qwen/Qwen3-8B-FP8", "Apache-2.0", 8.19, 32768, "fp8"),
)


def find_hub_card(name: str) -> HubCard | None:
    """The card of that name, None where there is none."""
    return next((card for card in HUB_MODELS if card.name == name), None)


def pull_from_hub(card: HubCard, weights_dir: Path) -> Path:
    """The folder `<weights_dir>/<card name>` with the repository's files, and the hash of each.

    $HF_ENDPOINT is another hub of the same kind. Raises HubUnreachable.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    folder = weights_dir / card.name
    try:
        snapshot_download(
            card.repository, local_dir=folder, allow_patterns=list(card.files),
            endpoint=os.environ.get("HF_ENDPOINT"),
        )  # fmt: skip
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as exc:
        raise HubUnreachable(card.name, card.repository, str(exc).partition("\n")[0]) from exc
    hashes = {
        str(file.relative_to(folder)): sha256_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and ".cache" not in file.parts and file.name != _NOTE
    }
    (folder / _NOTE).write_text(json.dumps({"repository": card.repository, "sha256": hashes}))
    return folder
