"""The models of a running server, for whoever looks after it."""

from collections.abc import Mapping, Sequence

from gateway.models import EndpointForm, ModelForm
from gateway.openai.errors import ModelNotFound
from headrace.served import Served
from headrace.settings import Settings
from llm_endpoint.embedding.server import EmbeddingServer


class ServerModels:
    """A ModelControl over what a server has built."""

    def __init__(
        self, settings: Settings, served: Served, embedders: Mapping[str, EmbeddingServer]
    ) -> None:
        self._settings, self._served, self._embedders = settings, served, embedders

    def models(self) -> Sequence[ModelForm]:
        writers = [ModelForm.of(model.state()) for model in self._served.models.values()]
        return [*writers, *(self._embedder(name) for name in self._embedders)]

    def endpoints(self) -> Sequence[EndpointForm]:
        return [EndpointForm.of(one.state()) for one in self._served.endpoints.values()]

    def load(self, name: str) -> ModelForm:
        self._check(name)
        self._served.models[name].load()
        return ModelForm.of(self._served.models[name].state())

    async def unload(self, name: str) -> ModelForm:
        self._check(name)
        await self._served.models[name].unload()
        return ModelForm.of(self._served.models[name].state())

    def _check(self, name: str) -> None:
        if name not in self._served.models:
            tasks = {known: model.task for known, model in self._settings.models.items()}
            raise ModelNotFound(name, tasks, "generation")

    def _embedder(self, name: str) -> ModelForm:
        """Always there: questions wait for nobody."""
        embedder = self._embedders[name]
        state, info = embedder.state(), embedder.info
        waiting = state.interactive.waiting + (state.bulk.waiting if state.bulk else 0)
        return ModelForm(
            name=name,
            task="embedding",
            engine=self._settings.models[name].engine,
            weights=info.id,
            state="ready",
            context_tokens=info.max_tokens,
            waiting=waiting,
            replicas=[],
        )
