"""Settings in, working parts out: the only place that picks implementations."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import SecretStr

from feature_store.features import FeatureReader
from headrace.model_files import weights_of
from headrace.model_settings import (
    CrossEncoderModel,
    EmbeddingModel,
    LlamaCppModel,
    MaxSimModel,
    OnnxModel,
    OpenAIModel,
    RemoteRerankModel,
    SentenceTransformersModel,
    VllmModel,
)
from headrace.settings import FeaturesSection, FeatureUseSection, Settings, section_named
from headrace.settings_file import InvalidSettings
from headrace.vllm import build_vllm
from llm_endpoint.embedding.encoder import Encoder
from llm_endpoint.embedding.prefixes import Prefixes
from llm_endpoint.embedding.protocol import Embedder, TokenEmbedder
from llm_endpoint.embedding.server import EmbeddingServer
from llm_endpoint.generation import Generator, TextEngine
from llm_endpoint.rerank import MaxSimReranker, Reranker
from llm_endpoint.serving.machine import this_cpu
from rag_chain.chain import Chain, ChainLimits
from rag_chain.enrichment import FeatureSource, FeatureUse, Preference, check_use
from rag_chain.retrieval import Retriever
from rag_chain.second_stage import SecondStage
from vector_index.passages import Access, Lag
from vector_index.query import LegWeights

_T = TypeVar("_T")


def build_embedder(settings: Settings, model: str) -> Embedder:
    """The embedding engine of that name, for one caller.

    Raises WeightsMissing naming the pull that is needed.
    """
    from llm_endpoint.embedding.direct import DirectEmbedder

    return DirectEmbedder(build_encoder(settings, model), _prefixes(settings, model))


def build_embedding_server(settings: Settings, model: str) -> EmbeddingServer:
    """As `build_embedder`, for everybody who asks a server."""
    return EmbeddingServer(
        lambda: build_encoder(settings, model), prefixes=_prefixes(settings, model)
    )


def build_generator(settings: Settings, model: str) -> TextEngine:
    """The generation engine of that name; a local one (`LocalEngine`) is not started yet."""
    section = settings.models[model]
    if isinstance(section, LlamaCppModel):
        return _llama_cpp(settings, section)
    if isinstance(section, VllmModel):
        return build_vllm(settings, model, section)
    assert isinstance(section, OpenAIModel)
    from llm_endpoint.generation.openai import OpenAIGenerator

    return OpenAIGenerator(
        section.base_url,
        section.model,
        api_key=_revealed(section.api_key),
        context_tokens=section.context_tokens,
    )


def build_reranker(settings: Settings, model: str, embedder: Callable[[str], Embedder]) -> Reranker:
    """The reranking engine of that name. embedder: the running embedder of a model's name."""
    section = settings.models[model]
    if isinstance(section, MaxSimModel):
        tokens = embedder(section.embedder)
        assert isinstance(tokens, TokenEmbedder)
        return MaxSimReranker(tokens)
    if isinstance(section, CrossEncoderModel):
        from llm_endpoint.rerank.cross_encoder import CrossEncoderReranker

        found = weights_of(settings, section.weights, "*.safetensors")
        return CrossEncoderReranker(
            found.file.parent, model=found.name, weights_sha256=found.sha256, device=section.device
        )
    assert isinstance(section, RemoteRerankModel)
    from llm_endpoint.rerank.remote import RemoteReranker

    return RemoteReranker(section.base_url, section.model, api_key=_revealed(section.api_key))


def build_chain(
    settings: Settings,
    name: str,
    *,
    retriever: Retriever,
    generator: Generator,
    features: FeatureReader | None,
    reranker: Reranker | None,
    lag: Callable[[], Lag | None],
) -> Chain:
    """The chain of that name over parts that several chains may share.

    A local generator is started before the first question. features: of `build_features`.
    Raises UnusableFeature where the views lack a feature that the chain uses.
    """
    section = settings.chains[name]
    source = None
    if features is not None and section.features is not None:
        use = feature_use(section.features)
        check_use(use, features)
        source = FeatureSource(features, use)
    stage = None
    if reranker is not None and section.rerank is not None:
        stage = SecondStage(reranker, section.rerank.candidates)
    return Chain(
        retriever,
        generator,
        name=name,
        limits=ChainLimits(
            mode=section.retrieval,
            weights=LegWeights(section.weights.ann, section.weights.full_text),
            k=section.k,
            min_score=section.min_score,
            prompt_tokens=section.prompt_tokens,
            answer_tokens=section.answer_tokens,
        ),
        features=source,
        second_stage=stage,
        lag=lag,
    )


def build_features(settings: Settings) -> FeatureReader | None:
    """The online features, or None where none are configured. Loading Feast takes seconds.

    Raises FeaturesNotApplied.
    """
    if settings.features is None:
        return None
    from feature_store.feast_store import FeastFeatures

    return FeastFeatures(settings.features.repo, settings.features.service)


def features_section(settings: Settings) -> FeaturesSection:
    """The `features` section. Raises InvalidSettings where there is none."""
    if settings.features is None:
        raise InvalidSettings("headrace.yaml has no `features` section; add one with `repo: …`")
    return settings.features


def access_of(settings: Settings) -> Access:
    """Who the command line and every HTTP request ask as."""
    return Access(settings.principal.tenant, frozenset(settings.principal.groups))


def chain_name(settings: Settings, name: str | None) -> str:
    """The name itself, or the first chain of headrace.yaml for None. Raises InvalidSettings."""
    if name is None:
        return next(iter(settings.chains))
    section_named(settings.chains, name, "chain")
    return name


def build_encoder(settings: Settings, model: str) -> Encoder:
    """What computes the vectors of that embedding model, for one thread."""
    section = settings.models[model]
    if isinstance(section, SentenceTransformersModel):
        from llm_endpoint.embedding.sentence_transformers import SentenceTransformersEncoder

        found = weights_of(settings, section.weights, "*.safetensors")
        return SentenceTransformersEncoder(
            found.file.parent, id=found.name, weights_sha256=found.sha256, device=section.device
        )
    assert isinstance(section, OnnxModel)
    from llm_endpoint.embedding.onnx import OnnxEncoder

    found = weights_of(settings, section.weights, "*.onnx")
    return OnnxEncoder(
        found.file,
        found.file.with_name("tokenizer.json"),
        id=found.name,
        weights_sha256=found.sha256,
        threads=_capped(settings, section.threads),
    )


def _prefixes(settings: Settings, model: str) -> Prefixes:
    section = settings.models[model]
    assert isinstance(section, EmbeddingModel)
    return Prefixes(section.query_prefix, section.passage_prefix)


def _llama_cpp(settings: Settings, section: LlamaCppModel) -> TextEngine:
    from llm_endpoint.generation.llama_cpp import LlamaCppGenerator

    found = weights_of(settings, section.weights, "*.gguf")
    log_file = settings.state_dir / "logs" / f"{found.name}.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    return LlamaCppGenerator(
        found.file,
        model=found.name,
        weights_sha256=found.sha256,
        context_tokens=section.context_tokens,
        parallel=section.parallel,
        threads=_capped(settings, section.threads),
        log_file=log_file,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _capped(settings: Settings, threads: int) -> int:
    """More threads than cores only wait for one another."""
    return min(threads, settings.devices.cores or this_cpu().cores)


def feature_use(section: FeatureUseSection) -> FeatureUse:
    liked = section.preference
    return FeatureUse(
        user_view=section.user_view,
        document_view=section.document_view,
        document_weights=section.document_weights,
        prompt_features=section.prompt_features,
        preference=None if liked is None else Preference(liked.feature, liked.column, liked.weight),
    )
