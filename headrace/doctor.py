"""What can be checked before anybody asks: each check ends in a fact or in what to do."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from feature_store.errors import FeatureStoreError
from headrace import assembly, indexes
from headrace.model_settings import (
    EmbeddingModel,
    MaxSimModel,
    OpenAIModel,
    PyfuncModel,
    RemoteRerankModel,
    VllmModel,
)
from headrace.settings import Settings
from headrace.settings_file import InvalidSettings
from headrace.vllm import find_executable, vllm_weights
from llm_endpoint import CATALOGUE, LlmEndpointError, find_card, resolve, verify
from llm_endpoint.pyfunc import check_model_folder
from pipelines.errors import PipelineError
from rag_chain.enrichment import check_use
from rag_chain.errors import RagChainError
from vector_index.errors import VectorIndexError
from vector_index.gpu import open_device
from vector_index.verify import verified

_LOW_DISK_BYTES = 1_000_000_000
_FAISS_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
_OURS = (
    FeatureStoreError,
    InvalidSettings,
    LlmEndpointError,
    OSError,
    PipelineError,
    RagChainError,
    VectorIndexError,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's end: `detail` is the fact found, or what is wrong and how to mend it."""

    check: str
    is_fine: bool
    detail: str


class Unfit(Exception):
    """A check of this module found something to mend."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which a question needs the parts; none changes anything."""
    yield _run("environment", _environment)
    yield _run("state folder", lambda: _state_folder(settings))
    for name in settings.models:
        yield _run(f"model {name}", lambda name=name: _model(settings, name))  # type: ignore[misc]
    for number in settings.gpus:
        yield _run(f"gpu {number}", lambda number=number: _gpu(settings, number))  # type: ignore[misc]
    for name in settings.table_indexes:
        yield _run(f"table of {name}", lambda name=name: _table(settings, name))  # type: ignore[misc]
    for name in settings.indexes:
        yield _run(f"index {name}", lambda name=name: _index(settings, name))  # type: ignore[misc]
    if settings.features is not None:
        yield _run("features", lambda: _features(settings))
    yield _run("port", lambda: _port(settings))


def _run(check: str, work: Callable[[], str]) -> Finding:
    try:
        return Finding(check, True, work())
    except (Unfit, *_OURS) as exc:
        return Finding(check, False, str(exc))


def _environment() -> str:
    found = [f"{name} {held}" for name in _FAISS_BUILDS if (held := _version(name))]
    if len(found) != 1:
        raise Unfit(
            f"{' and '.join(found) or 'no faiss'} installed; exactly one of "
            f"{', '.join(_FAISS_BUILDS)} must be, for they share one module"
        )
    return found[0]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _state_folder(settings: Settings) -> str:
    folder = settings.state_dir
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not os.access(existing, os.W_OK):
        raise Unfit(f"{existing} cannot be written to; change its owner, or set state_dir")
    free = shutil.disk_usage(existing).free
    if free < _LOW_DISK_BYTES:
        raise Unfit(f"{free / 1e9:.1f} GB free at {existing}; a publish may fail, free some")
    return f"{folder}, {free / 1e9:.1f} GB free"


def _model(settings: Settings, name: str) -> str:
    model = settings.models[name]
    if isinstance(model, MaxSimModel):
        return f"uses the embedder {model.embedder}"
    if isinstance(model, PyfuncModel):
        return str(check_model_folder(model.path, settings.pyfunc_folders))
    if isinstance(model, VllmModel):
        engine = find_executable(settings, model)
        return f"{vllm_weights(settings, model)}, served by {engine}"
    if isinstance(model, OpenAIModel | RemoteRerankModel):
        return f"{model.model} at {model.base_url} (not called)"
    if all(card.name != model.weights for card in CATALOGUE):
        return f"{resolve(model.weights, settings.weights).folder}, a folder of your own"
    folder = verify(find_card(model.weights), settings.weights)
    return f"{model.weights}: every file in {folder} has its SHA-256"


def _gpu(settings: Settings, number: int) -> str:
    memory_mb = settings.gpus[number].memory_mb
    open_device(number, memory_bytes=memory_mb * 1_000_000).close()
    return f"can be used, up to {memory_mb} MB of it"


def _table(settings: Settings, name: str) -> str:
    source = indexes.build_source(settings, name)
    columns = source.metadata_types()
    return f"version {source.version().version}, filters: {', '.join(columns) or 'none'}"


def _index(settings: Settings, name: str) -> str:
    built = indexes.built_settings(settings, name)
    if built is None:
        verb = "create" if name in settings.direct_indexes else "sync"
        raise Unfit(f"not published yet; run `headrace index {verb} {name}`")
    card = find_card(_weights(settings, name))
    if built.embedder.weights_sha256 != card.weights_sha256:
        raise Unfit(
            f"built by {built.embedder.id}, the settings say {card.name}; run `headrace index "
            f"rebuild {name}`"
        )
    table_index = settings.table_indexes.get(name)
    is_in_milvus = table_index is not None and table_index.milvus is not None
    if not is_in_milvus:
        verified(indexes.index_home(settings, name))
    version, _, _ = indexes.published_state(settings, name)
    state = "in Milvus" if is_in_milvus else "checksums right"
    if table_index is None:
        return f"{version.generation}: {state}, follows no table"
    lag = indexes.build_source(settings, name).lag(version.source)
    return f"{version.generation}: {state}, {lag.seconds:.0f} s behind its table"


def _weights(settings: Settings, index: str) -> str:
    model = settings.models[settings.indexes[index].embedder]
    assert isinstance(model, EmbeddingModel)
    return model.weights


def _features(settings: Settings) -> str:
    reader = assembly.build_features(settings)
    assert reader is not None
    try:
        for chain in settings.chains.values():
            if chain.features is not None:
                check_use(assembly.feature_use(chain.features), reader)
    finally:
        reader.close()
    return "applied, and every feature a chain uses is defined"


def _port(settings: Settings) -> str:
    host, port = settings.gateway.host, settings.gateway.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As uvicorn does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise Unfit(
                f"{host}:{port} cannot be bound ({exc.strerror}); stop what listens there (it may "
                "be a headrace that serves), or set gateway.port"
            ) from exc
    return f"{host}:{port} is free"
