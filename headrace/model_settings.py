"""The models of headrace.yaml: what each engine needs to know."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from headrace.settings_file import ConfigPath


class Section(BaseModel):
    """A mapping of headrace.yaml: keys that it does not know are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, form: object) -> object:
        return checked_keys(form, cls.model_fields)


class OnnxModel(Section):
    """An embedder on the CPU. `weights`: a catalogue name.

    query_prefix, passage_prefix: what the model was trained to see in front of each.
    """

    task: Literal["embedding"]
    engine: Literal["onnx"]
    weights: str
    threads: int = Field(2, ge=1, le=256)
    query_prefix: str = Field("", max_length=1000)
    passage_prefix: str = Field("", max_length=1000)


class ServingSection(Section):
    """How many copies of a model run, and for how long without work.

    With `min_replicas: 0` and `idle_s` the model stops, and a request starts it. See
    llm_endpoint.serving.limits.ServingLimits.
    """

    min_replicas: int = Field(1, ge=0, le=64)
    max_replicas: int = Field(1, ge=1, le=64)
    idle_s: float | None = Field(None, ge=1)
    queue: int = Field(64, ge=1, le=100_000)
    queue_timeout_s: float = Field(60.0, gt=0)
    scale_after_s: float = Field(1.0, ge=0)
    drain_s: float = Field(30.0, ge=0)

    @model_validator(mode="after")
    def _check_replicas(self) -> "ServingSection":
        if self.min_replicas > self.max_replicas:
            raise PydanticCustomError(
                "replicas",
                "min_replicas {least} is more than max_replicas {most}",
                {"least": self.min_replicas, "most": self.max_replicas},
            )
        return self


class LlamaCppModel(Section):
    """A generator in a child process. `context_tokens` is per request of the `parallel` ones."""

    task: Literal["generation"]
    engine: Literal["llama.cpp"]
    weights: str
    context_tokens: int = Field(2048, ge=256, le=131072)
    parallel: int = Field(2, ge=1, le=64)
    threads: int = Field(2, ge=1, le=256)
    serving: ServingSection = Field(default_factory=ServingSection)


class OpenAIModel(Section):
    """A generator behind any server that speaks OpenAI's protocol at `base_url` (…/v1).

    parallel: requests that it is sent at once.
    """

    task: Literal["generation"]
    engine: Literal["openai"]
    base_url: str = Field(pattern="^https?://")
    model: str
    api_key: SecretStr | None = None
    context_tokens: int = Field(4096, ge=256)
    parallel: int = Field(64, ge=1, le=4096)
    serving: ServingSection = Field(default_factory=ServingSection)


class MaxSimModel(Section):
    """A reranker by late interaction over the token vectors of the `embedder`."""

    task: Literal["rerank"]
    engine: Literal["maxsim"]
    embedder: str


class RemoteRerankModel(Section):
    """A reranker behind `base_url`/rerank, in the shape of Jina, Cohere and vLLM."""

    task: Literal["rerank"]
    engine: Literal["rerank-api"]
    base_url: str = Field(pattern="^https?://")
    model: str
    api_key: SecretStr | None = None


class PyfuncModel(Section):
    """An MLflow model in the folder `path`, which must lie below one of `pyfunc_folders`.

    python: the interpreter of the environment that has MLflow and what the model needs; ours if
    not given. environment: variables for the model's code. parallel: requests at once.
    """

    task: Literal["pyfunc"]
    engine: Literal["pyfunc"]
    path: ConfigPath
    python: ConfigPath | None = None
    environment: dict[str, SecretStr] = Field(default_factory=dict)
    parallel: int = Field(4, ge=1, le=256)
    queue: int = Field(64, ge=0, le=100_000)
    timeout_s: float = Field(300.0, gt=0, le=86_400)
    start_timeout_s: float = Field(300.0, gt=0, le=86_400)


RerankModel = MaxSimModel | RemoteRerankModel
GenerationModel = LlamaCppModel | OpenAIModel
ModelSection = Annotated[
    OnnxModel | GenerationModel | RerankModel | PyfuncModel, Field(discriminator="engine")
]


def checked_keys(form: object, fields: Mapping[str, object]) -> object:
    """The form itself, if it is a mapping of known fields or something for pydantic to refuse."""
    if isinstance(form, Mapping):
        for key, value in form.items():
            if key not in fields:
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key {key} (value {value}); allowed: {allowed}",
                    {"key": repr(key), "value": repr(value), "allowed": ", ".join(fields)},
                )
    return form
