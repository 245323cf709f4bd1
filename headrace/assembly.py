"""Settings in, working parts out: the only place that picks implementations."""

from collections.abc import Callable
from concurrent.futures import Executor

from feature_store.features import FeatureReader
from headrace.settings import FeaturesSection, IndexSection, InvalidSettings, Settings
from llm_endpoint import ModelSource, resolve
from llm_endpoint.embedding.onnx import OnnxEmbedder
from llm_endpoint.generation.llama_cpp import LlamaCppGenerator
from pipelines.chunking import Chunker, token_chunker
from pipelines.delta_source import ColumnMapping, DeltaSource
from rag_chain.chain import Chain, ChainLimits
from rag_chain.enrichment import FeatureSource, FeatureUse, Preference
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import Access, EmbedderIdentity, Lag


def build_embedder(settings: Settings) -> OnnxEmbedder:
    """The embedding engine. Raises WeightsMissing naming the pull that is needed."""
    source = resolve(settings.embedder.weights, settings.weights)
    name, sha256, main_file = _card(source, settings.embedder.weights)
    return OnnxEmbedder(
        source.folder / main_file,
        source.folder / "tokenizer.json",
        id=name,
        weights_sha256=sha256,
        threads=settings.embedder.threads,
    )


def build_generator(settings: Settings) -> LlamaCppGenerator:
    """The generation engine, not started yet."""
    source = resolve(settings.generator.weights, settings.weights)
    name, sha256, main_file = _card(source, settings.generator.weights)
    log_file = settings.state_dir / "logs" / f"{name}.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    return LlamaCppGenerator(
        source.folder / main_file,
        model=name,
        weights_sha256=sha256,
        context_tokens=settings.generator.context_tokens,
        parallel=settings.generator.parallel,
        threads=settings.generator.threads,
        log_file=log_file,
    )


def build_source(settings: Settings, name: str) -> DeltaSource:
    """The table behind an index."""
    section = index_section(settings, name)
    return DeltaSource(
        section.source.path,
        ColumnMapping(
            key=section.key,
            title=section.title,
            text=section.text,
            metadata=section.metadata,
            tenant=section.tenant,
            groups=section.groups,
            updated_at=section.updated_at,
        ),
    )


def build_index(settings: Settings, name: str, embedder: OnnxEmbedder) -> LocalIndex:
    """The index by that name, at its live generation."""
    section = index_section(settings, name)
    info = embedder.info
    return LocalIndex(
        settings.state_dir / "indexes" / name,
        IndexSettings(
            name=name,
            kind=section.kind,
            embedder=EmbedderIdentity(info.id, info.weights_sha256, info.dim),
            chunking={"max_tokens": section.max_tokens},
            metadata_columns=build_source(settings, name).metadata_types(),
            has_tenant=section.tenant is not None,
            has_groups=section.groups is not None,
        ),
    )


def build_chunker(settings: Settings, name: str, embedder: OnnxEmbedder) -> Chunker:
    """The splitter of an index, counting the embedder's own tokens."""
    section = index_section(settings, name)
    return token_chunker(embedder.info.tokenizer_file, section.max_tokens)


def build_chain(
    settings: Settings,
    index: LocalIndex,
    embedder: OnnxEmbedder,
    generator: LlamaCppGenerator,
    *,
    features: FeatureReader | None,
    lag: Callable[[], Lag | None],
    executor: Executor | None = None,
) -> Chain:
    """The chain over one index; the generator is started before the first question.

    features: of `build_features`, which may be shared between chains.
    """
    source = None
    if features is not None:
        source = FeatureSource(features, _feature_use(features_section(settings)))
    limits = ChainLimits(**settings.chain.model_dump())
    return Chain(
        index, embedder, generator, limits=limits, features=source, executor=executor, lag=lag
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


def index_section(settings: Settings, name: str) -> IndexSection:
    """The section of an index. Raises InvalidSettings listing the known ones."""
    if name not in settings.indexes:
        known = ", ".join(sorted(settings.indexes)) or "none"
        raise InvalidSettings(f"unknown index {name!r}; headrace.yaml has: {known}")
    return settings.indexes[name]


def _card(source: ModelSource, name: str) -> tuple[str, str, str]:
    if source.card is None:
        raise InvalidSettings(f"{name!r} is a folder; only catalogue models can be served yet")
    return source.card.name, source.card.weights_sha256, source.card.main_file


def _feature_use(section: FeaturesSection) -> FeatureUse:
    liked = section.preference
    return FeatureUse(
        user_view=section.user_view,
        document_view=section.document_view,
        document_weights=section.document_weights,
        prompt_features=section.prompt_features,
        preference=None if liked is None else Preference(liked.feature, liked.column, liked.weight),
    )
