"""A running server: models loaded, indexes followed, HTTP on top."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi import FastAPI

from feature_store.features import FeatureReader
from gateway import Backend, IndexForm, create_app
from gateway.openai.models import ServedModels
from gateway.openai.rag import PREFIX as RAG_PREFIX
from gateway.openai.rag import RagModel
from gateway.traffic import Traffic
from headrace import assembly, indexes
from headrace.batches import build_batches
from headrace.direct import ServedDirectIndex, open_direct
from headrace.follower import FollowedIndex
from headrace.index_form import index_form
from headrace.model_control import ServerModels
from headrace.planning import plan_of
from headrace.pyfunc import build_scorer
from headrace.quarantines import quarantine_of
from headrace.scheduled_proof import ScheduledProof
from headrace.served import Served, build_served
from headrace.settings import Settings
from headrace.syncing import open_lineage
from headrace.watching import build_watcher
from llm_endpoint import LlmEndpointError
from llm_endpoint.embedding.protocol import Embedder
from llm_endpoint.embedding.server import EmbeddingServer
from llm_endpoint.generation import OpenAIEngine
from llm_endpoint.pyfunc import PyfuncScorer
from llm_endpoint.rerank import Reranker
from pipelines.lineage_sender import LineageSender
from pipelines.proof import Proof, prove
from pipelines.watch import Watcher
from rag_chain.chain import Chain
from rag_chain.retrieval import Retriever
from vector_index.gpu import Device
from vector_index.protocol import SyncedIndex, VectorIndex

_log = logging.getLogger(__name__)
_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the chains share, by the names of headrace.yaml."""

    settings: Settings
    embedders: Mapping[str, EmbeddingServer]
    served: Served
    features: FeatureReader | None
    gpus: Mapping[int, Device]
    lineage: LineageSender | None
    followed: Mapping[str, FollowedIndex]
    direct: Mapping[str, ServedDirectIndex]
    watchers: Mapping[str, Watcher]
    proofs: Mapping[str, ScheduledProof]
    retrievers: Mapping[str, Retriever]
    rerankers: Mapping[str, Reranker]
    scorers: Mapping[str, PyfuncScorer]
    executor: ThreadPoolExecutor

    def problems(self) -> Mapping[str, str]:
        """What keeps questions from being answered, by part."""
        found = {f"index {name}": index.problem() for name, index in self.followed.items()}
        found |= {f"model {name}": problem for name, problem in self.served.problems().items()}
        found |= {
            f"model {name}": None if scorer.is_ready() else "not running yet"
            for name, scorer in self.scorers.items()
        }
        return {part: problem for part, problem in found.items() if problem is not None}

    def index(self, name: str) -> IndexForm:
        """What an index is at."""
        if name in self.direct:
            return self.direct[name].form()
        follower, watcher, proof = (
            self.followed[name], self.watchers.get(name), self.proofs.get(name)
        )  # fmt: skip
        return index_form(self.settings, name, follower, watcher=watcher, proof=proof)

    def start(self) -> None:
        """Starts what runs in the background; returns at once."""
        self.served.start()
        for scorer in self.scorers.values():
            scorer.start()
        for follower in self.followed.values():
            follower.start()
        for direct in self.direct.values():
            direct.start()
        for watcher in self.watchers.values():
            watcher.start()
        for proof in self.proofs.values():
            proof.start()

    async def stop(self) -> None:
        """Ends all that `start` began, and frees models and stores."""
        for watcher in self.watchers.values():
            watcher.tell_to_stop()
        for watcher in self.watchers.values():
            watcher.stop()
        for proof in self.proofs.values():
            proof.stop()
        for follower in self.followed.values():
            follower.stop()
        for direct in self.direct.values():
            direct.stop()
        await self.served.close()
        for scorer in self.scorers.values():
            await scorer.close()
        for reranker in self.rerankers.values():
            await reranker.close()
        for embedder in self.embedders.values():
            embedder.close()
        if self.lineage is not None:
            self.lineage.close()
        for gpu in self.gpus.values():
            gpu.close()
        if self.features is not None:
            self.features.close()
        self.executor.shutdown(wait=False, cancel_futures=True)


def build_app(settings: Settings) -> FastAPI:
    """The application of `headrace serve`; its lifespan starts and stops what it needs.

    Raises ImpossiblePlan where its models do not fit on the devices.
    """
    plan_of(settings)
    parts = _parts(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        parts.start()
        keeping = asyncio.create_task(_keep_up(parts.served))
        try:
            async with batches:
                yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await parts.stop()

    chains = {name: _chain(settings, parts, name) for name in settings.chains}
    models, traffic = _served_models(settings, parts, chains), Traffic()
    batches = build_batches(settings, models, traffic)
    backend = Backend(
        chains=chains,
        retrievers=parts.retrievers,
        access=assembly.access_of(settings),
        index=parts.index,
        problems=parts.problems,
        writers=parts.direct,
        models=models,
        control=ServerModels(settings, parts.served, parts.embedders),
        scorers=parts.scorers,
        batches=batches,
        traffic=traffic,
    )
    return create_app(
        backend,
        max_body_bytes=settings.gateway.max_body_bytes,
        max_in_flight=settings.gateway.max_in_flight,
        max_upload_bytes=settings.gateway.max_upload_bytes,
        lifespan=lifespan,
    )


async def _keep_up(served: Served) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        try:
            await served.tick()
        except LlmEndpointError as exc:
            # One engine that cannot be put to sleep must not end the upkeep of the others.
            _log.error("upkeep_failed", exc_info=exc)


def _parts(settings: Settings) -> _Parts:
    embedders = {
        name: assembly.build_embedding_server(settings, name)
        for name, model in settings.models.items()
        if model.task == "embedding"
    }
    by_task = settings.models_by_task
    gpus = indexes.open_gpus(settings)
    lineage = open_lineage(settings)
    followed = {
        name: FollowedIndex(
            indexes.open_index(
                settings,
                name,
                embedders[section.embedder],
                place=None if section.gpu is None else gpus[section.gpu].replica,
            ),
            indexes.build_source(settings, name),
        )
        for name, section in settings.table_indexes.items()
    }
    direct = {
        name: open_direct(settings, name, embedders[section.embedder])
        for name, section in settings.direct_indexes.items()
    }
    searched: dict[str, VectorIndex] = {}
    for name in settings.indexes:
        searched[name] = direct[name].index if name in direct else followed[name].index
    # The encoder runs on its own threads: more than two callers at once only wait for it.
    executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="retrieve")
    return _Parts(
        settings=settings,
        embedders=embedders,
        served=build_served(settings),
        features=assembly.build_features(settings),
        rerankers={
            model: assembly.build_reranker(settings, model, embedders.__getitem__)
            for model in by_task["rerank"]
        },
        scorers={model: build_scorer(settings, model) for model in by_task["pyfunc"]},
        gpus=gpus,
        lineage=lineage,
        followed=followed,
        direct=direct,
        watchers={
            name: build_watcher(
                settings,
                name,
                embedders[section.embedder].bulk,
                followed[name].index,
                lineage=lineage,
            )
            for name, section in settings.table_indexes.items()
            if section.sync == "watch"
        },
        proofs={
            name: ScheduledProof(
                name,
                _prover(settings, name, embedders[section.embedder].bulk, followed[name].index),
                every_s=section.verify_every_s,
            )
            for name, section in settings.table_indexes.items()
            if section.verify_every_s is not None
        },
        retrievers={
            name: Retriever(index, embedders[settings.indexes[name].embedder], executor=executor)
            for name, index in searched.items()
        },
        executor=executor,
    )


def _served_models(settings: Settings, parts: _Parts, chains: Mapping[str, Chain]) -> ServedModels:
    access = assembly.access_of(settings)
    generators: dict[str, OpenAIEngine] = {**parts.served.endpoints, **parts.served.models}
    for name, chain in chains.items():
        context = parts.served.engine(settings.chains[name].model).info.context_tokens
        generators[f"{RAG_PREFIX}{name}"] = RagModel(chain, name, access, context_tokens=context)
    return ServedModels(
        generators=generators,
        embedders=parts.embedders,
        rerankers=parts.rerankers,
        timeout_s=settings.gateway.timeout_s,
        created=int(time.time()),
    )


def _prover(
    settings: Settings, name: str, embedder: Embedder, index: SyncedIndex
) -> Callable[[], Proof]:
    source = indexes.build_source(settings, name)
    chunk = indexes.build_chunker(settings, name, embedder)

    def run() -> Proof:
        held = quarantine_of(settings, name).held_as()
        return prove(source, index, embedder, chunk, set_aside=held)

    return run


def _chain(settings: Settings, parts: _Parts, name: str) -> Chain:
    section = settings.chains[name]
    follower = parts.followed.get(section.index)
    return assembly.build_chain(
        settings,
        name,
        retriever=parts.retrievers[section.index],
        generator=parts.served.engine(section.model),
        features=parts.features,
        reranker=parts.rerankers[section.rerank.model] if section.rerank else None,
        lag=lambda: None if follower is None else follower.lag,
    )
