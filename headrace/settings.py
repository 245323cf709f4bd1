"""headrace.yaml and its environment overrides, read once and checked."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from yaml import YAMLError


class InvalidSettings(Exception):
    """One line: the key, its value, and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EmbedderSettings(_Section):
    """`weights`: a catalogue name or a folder with model.onnx and tokenizer.json."""

    weights: str
    threads: int = Field(2, ge=1, le=256)


class GeneratorSettings(_Section):
    """`context_tokens` is per request; `parallel` requests run at once."""

    weights: str
    context_tokens: int = Field(2048, ge=256, le=131072)
    parallel: int = Field(2, ge=1, le=64)
    threads: int = Field(2, ge=1, le=256)


class SourceSettings(_Section):
    """`path`: the folder of a Delta table, relative to the working folder."""

    path: Path


class IndexSection(_Section):
    """Which columns of the source mean what, and how passages are cut and stored."""

    source: SourceSettings
    key: str
    title: str
    text: str
    metadata: tuple[str, ...] = ()
    tenant: str | None = None
    groups: str | None = None
    updated_at: str | None = None
    kind: Literal["exact", "flat"] = "flat"
    max_tokens: int = Field(200, ge=16, le=8192)


class ChainSection(_Section):
    """Bounds of the retrieval-augmented chain; see rag_chain.chain.ChainLimits."""

    k: int = Field(3, ge=1, le=100)
    min_score: float = Field(0.35, ge=-1, le=1)
    prompt_tokens: int = Field(900, ge=64)
    answer_tokens: int = Field(96, ge=1)


class PreferenceSection(_Section):
    """A list feature of the user, and the metadata column whose value may stand in it."""

    feature: str
    column: str
    weight: float = Field(ge=-1, le=1)


class FeaturesSection(_Section):
    """What is read from which Feast repository; see rag_chain.enrichment.FeatureUse."""

    repo: Path
    service: str
    user_view: str
    document_view: str
    document_weights: dict[str, Annotated[float, Field(ge=-1, le=1)]] = {}
    prompt_features: tuple[str, ...] = ()
    preference: PreferenceSection | None = None


class GatewaySection(_Section):
    """Where HTTP is served. Only loopback: there are no keys yet."""

    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    max_body_bytes: int = Field(262_144, ge=1024, le=16_777_216)


class PrincipalSection(_Section):
    """Who the command line and every HTTP request ask as."""

    tenant: str
    groups: tuple[str, ...]


class Settings(BaseSettings):
    """Everything in headrace.yaml."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    state_dir: Path = Path(".headrace")
    weights_dir: Path | None = None
    embedder: EmbedderSettings
    generator: GeneratorSettings
    indexes: dict[str, IndexSection]
    chain: ChainSection = ChainSection()
    features: FeaturesSection | None = None
    gateway: GatewaySection = GatewaySection()
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
        path = os.environ.get("HEADRACE_CONFIG", "headrace.yaml")
        return env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)

    @property
    def weights(self) -> Path:
        """Where models' files are kept."""
        return self.weights_dir or self.state_dir / "weights"


def load_settings() -> Settings:
    """The settings of $HEADRACE_CONFIG (headrace.yaml) and the environment.

    Raises InvalidSettings with one line naming key, value and what is allowed.
    """
    path = Path(os.environ.get("HEADRACE_CONFIG", "headrace.yaml"))
    if not path.is_file():
        raise InvalidSettings(f"no settings file at {path}; set HEADRACE_CONFIG or create it")
    try:
        return Settings()
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidSettings(f"{path}: {key}: {first['msg']} (got {first['input']!r})") from exc
    except YAMLError as exc:
        raise InvalidSettings(f"{path}: not valid YAML: {' '.join(str(exc).split())}") from exc
