"""The models of this server: what runs where, and starting and ending them by hand."""

from collections.abc import Sequence
from typing import Protocol

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from gateway.openai.errors import ModelNotFound
from llm_endpoint.serving.endpoint import EndpointState
from llm_endpoint.serving.state import ModelState

router = APIRouter(tags=["models"])


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReplicaForm(_Form):
    """A running copy. idle_s: since its last request. pid: of its process on this machine."""

    number: int
    state: str
    in_flight: int
    idle_s: float
    pid: int | None


class ModelForm(_Form):
    """A model. state: stopped, starting, ready, sleeping, draining or failed. waiting: requests
    without a slot; of an embedder: texts."""

    name: str
    task: str
    engine: str
    weights: str
    state: str
    context_tokens: int
    waiting: int
    replicas: list[ReplicaForm]

    @classmethod
    def of(cls, state: ModelState) -> "ModelForm":
        """A generation model."""
        return cls(
            name=state.name,
            task="generation",
            engine=state.info.engine,
            weights=state.info.model,
            state=state.state,
            context_tokens=state.info.context_tokens,
            waiting=state.waiting,
            replicas=[
                ReplicaForm.model_validate(replica, from_attributes=True)
                for replica in state.replicas
            ],
        )


class EndpointForm(_Form):
    """A name before several models; see llm_endpoint.serving.endpoint.EndpointState."""

    name: str
    in_flight: int
    requests: dict[str, int]
    fallen_back: int
    shadowed: int
    shadow_failures: int
    shadow_dropped: int

    @classmethod
    def of(cls, state: EndpointState) -> "EndpointForm":
        return cls.model_validate(state, from_attributes=True)


class ModelsForm(_Form):
    """All of them."""

    models: list[ModelForm]
    endpoints: list[EndpointForm]


class ModelControl(Protocol):
    """The models that a server runs."""

    def models(self) -> Sequence[ModelForm]: ...

    def endpoints(self) -> Sequence[EndpointForm]: ...

    def load(self, name: str) -> ModelForm:
        """Starts or wakes it; returns at once. Raises ModelNotFound."""
        ...

    async def unload(self, name: str) -> ModelForm:
        """Ends it once what it works on is done; a request starts it again. Raises
        ModelNotFound."""
        ...


class NoModels:
    """The control of a server that runs none."""

    def models(self) -> Sequence[ModelForm]:
        return ()

    def endpoints(self) -> Sequence[EndpointForm]:
        return ()

    def load(self, name: str) -> ModelForm:
        raise ModelNotFound(name, {})

    async def unload(self, name: str) -> ModelForm:
        raise ModelNotFound(name, {})


@router.get("/models")
async def list_models(request: Request) -> ModelsForm:
    """Every model and endpoint: its state, its replicas, what waits for it."""
    control = _control(request)
    return ModelsForm(models=list(control.models()), endpoints=list(control.endpoints()))


@router.post("/models/{name}/load")
async def load(name: str, request: Request) -> ModelForm:
    """Start a model, or wake it, before anybody asks."""
    return _control(request).load(name)


@router.post("/models/{name}/unload")
async def unload(name: str, request: Request) -> ModelForm:
    """Give a model's memory back, once it has answered what it works on."""
    return await _control(request).unload(name)


def _control(request: Request) -> ModelControl:
    control: ModelControl = request.app.state.backend.control
    return control
