"""The models of headrace.yaml: what each engine needs to know."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError


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


class LlamaCppModel(Section):
    """A generator in a child process. `context_tokens` is per request of the `parallel` ones."""

    task: Literal["generation"]
    engine: Literal["llama.cpp"]
    weights: str
    context_tokens: int = Field(2048, ge=256, le=131072)
    parallel: int = Field(2, ge=1, le=64)
    threads: int = Field(2, ge=1, le=256)


class OpenAIModel(Section):
    """A generator behind any server that speaks OpenAI's protocol at `base_url` (…/v1)."""

    task: Literal["generation"]
    engine: Literal["openai"]
    base_url: str = Field(pattern="^https?://")
    model: str
    api_key: SecretStr | None = None
    context_tokens: int = Field(4096, ge=256)


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


RerankModel = MaxSimModel | RemoteRerankModel
GenerationModel = LlamaCppModel | OpenAIModel
ModelSection = Annotated[OnnxModel | GenerationModel | RerankModel, Field(discriminator="engine")]


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
