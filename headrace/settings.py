"""headrace.yaml and its environment overrides, read once and checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import (
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from headrace.device_settings import DevicesSection
from headrace.endpoint_settings import EndpointSection
from headrace.index_settings import (
    AnyIndexSection,
    DirectIndexSection,
    GpuSection,
    IndexSection,
    LineageSection,
)
from headrace.model_settings import MaxSimModel, ModelSection, Section, checked_keys
from headrace.settings_file import (
    ConfigPath,
    InvalidSettings,
    check_environment,
    config_file,
    read_config,
)
from vector_index.query import QueryType

_T = TypeVar("_T")


class FeaturesSection(Section):
    """Which Feast repository is read, through which of its feature services."""

    repo: ConfigPath
    service: str


class PreferenceSection(Section):
    """A list feature of the user, and the metadata column whose value may stand in it."""

    feature: str
    column: str
    weight: float = Field(ge=-1, le=1)


class FeatureUseSection(Section):
    """What a chain reads from the feature store; see rag_chain.enrichment.FeatureUse."""

    user_view: str
    document_view: str
    document_weights: dict[str, Annotated[float, Field(ge=-1, le=1)]] = Field(default_factory=dict)
    prompt_features: tuple[str, ...] = ()
    preference: PreferenceSection | None = None


class LegWeightsSection(Section):
    """How much vectors and words count in a hybrid search; see vector_index.query.LegWeights."""

    ann: float = Field(1.0, ge=0, le=1000)
    full_text: float = Field(1.0, ge=0, le=1000)


class RerankSection(Section):
    """A second stage over the `candidates` nearest passages, by a model of task rerank."""

    model: str
    candidates: int = Field(20, ge=1, le=1000)


class ChainSection(Section):
    """A retrieval-augmented chain: an index, a model, bounds; see rag_chain.chain.ChainLimits."""

    index: str
    model: str
    retrieval: QueryType = "hybrid"
    weights: LegWeightsSection = Field(default_factory=LegWeightsSection)
    rerank: RerankSection | None = None
    k: int = Field(3, ge=1, le=100)
    min_score: float = Field(0.35, ge=-1, le=1)
    prompt_tokens: int = Field(900, ge=64)
    answer_tokens: int = Field(96, ge=1)
    features: FeatureUseSection | None = None


class GatewaySection(Section):
    """Where HTTP is served. Only loopback: there are no keys yet.

    max_in_flight: requests that may be under way at once; one more gets a 429. timeout_s: of one
    request to a model. max_upload_bytes: of one file for /v1/batches, which ask
    `batch_concurrency` requests at once.
    """

    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    max_body_bytes: int = Field(4_194_304, ge=1024, le=16_777_216)
    max_upload_bytes: int = Field(104_857_600, ge=1024)
    batch_concurrency: int = Field(4, ge=1, le=1024)
    max_in_flight: int = Field(64, ge=1, le=10_000)
    timeout_s: float = Field(300.0, gt=0, le=86_400)


class PrincipalSection(Section):
    """Who the command line and every HTTP request ask as."""

    tenant: str
    groups: tuple[str, ...]


class Settings(BaseSettings):
    """Everything in headrace.yaml."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    state_dir: ConfigPath = Field(Path(".headrace"), validate_default=True)
    weights_dir: ConfigPath | None = None
    pyfunc_folders: tuple[ConfigPath, ...] = ()
    models: dict[str, ModelSection]
    devices: DevicesSection = Field(default_factory=DevicesSection)
    gpus: dict[int, GpuSection] = Field(default_factory=dict)
    indexes: dict[str, AnyIndexSection]
    lineage: LineageSection | None = None
    features: FeaturesSection | None = None
    endpoints: dict[str, EndpointSection] = Field(default_factory=dict)
    chains: dict[str, ChainSection]
    gateway: GatewaySection = Field(default_factory=GatewaySection)
    principal: PrincipalSection

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file's content is handed to the constructor; the environment goes before it.
        return env_settings, init_settings

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, form: object) -> object:
        return checked_keys(form, cls.model_fields)

    @model_validator(mode="after")
    def _check_names(self) -> "Settings":
        if taken := sorted(self.endpoints.keys() & self.models.keys()):
            raise PydanticCustomError(
                "endpoint_name",
                "endpoints.{name}: a model has that name already; give the endpoint another",
                {"name": taken[0]},
            )
        return self

    @property
    def table_indexes(self) -> dict[str, IndexSection]:
        """The indexes that follow a table."""
        return {name: s for name, s in self.indexes.items() if isinstance(s, IndexSection)}

    @property
    def direct_indexes(self) -> dict[str, DirectIndexSection]:
        """The indexes that are written to."""
        return {name: s for name, s in self.indexes.items() if isinstance(s, DirectIndexSection)}

    @property
    def models_by_task(self) -> dict[str, list[str]]:
        """Names of models, by what they are for."""
        tasks = ("embedding", "generation", "rerank", "pyfunc")
        by_task: dict[str, list[str]] = {task: [] for task in tasks}
        for name, model in self.models.items():
            by_task[model.task].append(name)
        return by_task

    @property
    def weights(self) -> Path:
        """Where models' files are kept."""
        return self.weights_dir or self.state_dir / "weights"


def section_named(sections: Mapping[str, _T], name: str, what: str) -> _T:
    """The section of that name. Raises InvalidSettings listing the known ones."""
    if name not in sections:
        known = ", ".join(sorted(sections)) or "none"
        raise InvalidSettings(f"unknown {what} {name!r}; headrace.yaml has: {known}")
    return sections[name]


def load_settings() -> Settings:
    """The settings of $HEADRACE_CONFIG (headrace.yaml) and the environment.

    Raises InvalidSettings with one line naming key, value and what is allowed.
    """
    path = config_file()
    form = read_config(path)
    check_environment(Settings.model_fields)
    try:
        settings = Settings(**form)  # type: ignore[arg-type]
    except ValidationError as exc:
        raise InvalidSettings(f"{path}: {_describe(exc.errors()[0])}") from exc
    for key, value, kind, allowed in _references(settings):
        if value not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise InvalidSettings(f"{path}: {key}: there is no {kind} {value!r}; known: {known}")
    return settings


def _references(settings: Settings) -> list[tuple[str, str, str, set[str]]]:
    """Every name that must be declared elsewhere: (key, value, what it names, the known ones)."""
    by_task = {task: set(names) for task, names in settings.models_by_task.items()}
    found = []
    for name, model in settings.models.items():
        if isinstance(model, MaxSimModel):
            key = f"models.{name}.embedder"
            found.append((key, model.embedder, "embedding model", by_task["embedding"]))
    for name, index in settings.indexes.items():
        key = f"indexes.{name}.embedder"
        found.append((key, index.embedder, "embedding model", by_task["embedding"]))
    cards = {str(number) for number in settings.gpus}
    for name, table_index in settings.table_indexes.items():
        if table_index.gpu is not None:
            found.append((f"indexes.{name}.gpu", str(table_index.gpu), "card", cards))
    for name, endpoint in settings.endpoints.items():
        key, writers = f"endpoints.{name}", by_task["generation"]
        found += [(key, model, "generation model", writers) for model in endpoint.models]
    for name, chain in settings.chains.items():
        found.append((f"chains.{name}.index", chain.index, "index", set(settings.indexes)))
        key = f"chains.{name}.model"
        writers = by_task["generation"] | set(settings.endpoints)
        found.append((key, chain.model, "generation model or endpoint", writers))
        if chain.rerank is not None:
            key = f"chains.{name}.rerank.model"
            found.append((key, chain.rerank.model, "rerank model", by_task["rerank"]))
        if chain.features is not None:
            section = set() if settings.features is None else {"features"}
            found.append((f"chains.{name}.features", "features", "section", section))
    return found


def _describe(error: ErrorDetails) -> str:
    path = [str(part) for part in error["loc"]]
    if path[:1] in (["models"], ["indexes"]):
        # pydantic puts what chose the class third; the file has no such key.
        del path[2:3]
    key = ".".join(path)
    what = f"{key}: {error['msg']}" if key else error["msg"]
    return what if error["type"] == "unknown_key" else f"{what} (got {_shown(error['input'])})"


def _shown(value: object) -> str:
    text = (
        yaml.safe_dump(value, default_flow_style=True) if isinstance(value, dict) else repr(value)
    )
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else f"{flat[:80]}…"
