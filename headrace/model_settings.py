"""The models of headrace.yaml: what each engine needs to know."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from headrace.settings_file import ConfigPath

# Of vLLM's options, those that the supervisor or another setting decides.
_OURS_TO_SAY = frozenset({
    "--host", "--port", "--uds", "--api-key", "--served-model-name", "--max-model-len",
    "--max-num-seqs", "--gpu-memory-utilization", "--dtype", "--quantization",
    "--enable-sleep-mode", "--no-enable-sleep-mode", "--config", "--ssl-keyfile", "--ssl-certfile",
    "--ssl-ca-certs", "--root-path",
})  # fmt: skip


class Section(BaseModel):
    """A mapping of headrace.yaml: keys that it does not know are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, form: object) -> object:
        return checked_keys(form, cls.model_fields)


class OnnxModel(Section):
    """An embedder on the CPU. `weights`: a catalogue name, or a folder with one *.onnx and its
    tokenizer.json.

    query_prefix, passage_prefix: what the model was trained to see in front of each.
    """

    task: Literal["embedding"]
    engine: Literal["onnx"]
    weights: str
    threads: int = Field(2, ge=1, le=256)
    query_prefix: str = Field("", max_length=1000)
    passage_prefix: str = Field("", max_length=1000)


class SentenceTransformersModel(Section):
    """An embedder by sentence-transformers (extra [gpu]), on a card where torch sees one.

    `weights`: a catalogue name, or a folder of safetensors.
    """

    task: Literal["embedding"]
    engine: Literal["sentence-transformers"]
    weights: str
    device: Literal["cpu", "cuda"] | None = None
    query_prefix: str = Field("", max_length=1000)
    passage_prefix: str = Field("", max_length=1000)


class BreakerSection(Section):
    """Failures in a row after which a model is left alone, and for how long at a time."""

    failures: int = Field(5, ge=1, le=1_000_000)
    open_s: float = Field(2.0, gt=0, le=3600)


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
    breaker: BreakerSection = Field(default_factory=BreakerSection)

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
    """A generator in a child process. `context_tokens` is per request of the `parallel` ones.

    `weights`: a catalogue name, or a folder with one *.gguf.
    """

    task: Literal["generation"]
    engine: Literal["llama.cpp"]
    weights: str
    context_tokens: int = Field(2048, ge=256, le=131072)
    parallel: int = Field(2, ge=1, le=64)
    threads: int = Field(2, ge=1, le=256)
    serving: ServingSection = Field(default_factory=ServingSection)


class VllmModel(Section):
    """A generator in a child process of vLLM's own environment.

    `weights`: a folder of safetensors, or the name of a catalogue model that was converted.
    `context_tokens` is per request of the `parallel` ones. device: `cpu`, `gpu0` and so on, None
    for the card with most room, or the CPU where there is no card. gpu_memory_utilization: None for
    what the plan gives. cache_gib: for keys and values, on a CPU.
    """

    task: Literal["generation"]
    engine: Literal["vllm"]
    weights: str
    executable: str | None = None
    context_tokens: int = Field(4096, ge=256, le=1_048_576)
    parallel: int = Field(16, ge=1, le=4096)
    device: str | None = Field(None, pattern=r"^(cpu|gpu\d+)$")
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    memory_mb: int | None = Field(None, ge=1)
    cache_gib: int = Field(2, ge=1, le=4096)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    extra_arguments: tuple[str, ...] = ()
    serving: ServingSection = Field(default_factory=ServingSection)

    @model_validator(mode="after")
    def _check_arguments(self) -> "VllmModel":
        for index, argument in enumerate(self.extra_arguments):
            if reason := _refusal(argument, is_first=index == 0):
                raise PydanticCustomError(
                    "argument",
                    "extra_arguments: {argument} {reason}",
                    {"argument": repr(argument), "reason": reason},
                )
        return self


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


class CrossEncoderModel(Section):
    """A reranker that reads question and text together (extra [gpu]); `weights`: a folder."""

    task: Literal["rerank"]
    engine: Literal["cross-encoder"]
    weights: str
    device: Literal["cpu", "cuda"] | None = None


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


EmbeddingModel = OnnxModel | SentenceTransformersModel
RerankModel = MaxSimModel | CrossEncoderModel | RemoteRerankModel
GenerationModel = LlamaCppModel | VllmModel | OpenAIModel
ModelSection = Annotated[
    EmbeddingModel | GenerationModel | RerankModel | PyfuncModel, Field(discriminator="engine")
]


def _refusal(argument: str, *, is_first: bool) -> str | None:
    """Why vLLM must not be told this; None where it may. vLLM reads _ as - and takes any beginning
    of an option that names one alone, so those are what is compared."""
    if argument.startswith("--"):
        name = argument.partition("=")[0].replace("_", "-")
        taken = any(option.startswith(name) for option in _OURS_TO_SAY)
        return "is set by Headrace, or short for what is; leave it out" if taken else None
    if is_first:
        return "is no option; the first must begin with --"
    if argument.startswith("-") and not argument[1:].replace(".", "", 1).isdigit():
        return "is a short option; write its long name"
    return None


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
