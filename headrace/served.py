"""Models and endpoints of headrace.yaml as they are served."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace import assembly
from headrace.endpoint_settings import EndpointSection
from headrace.model_settings import LlamaCppModel, OpenAIModel, VllmModel
from headrace.settings import Settings
from llm_endpoint.generation import TextEngine
from llm_endpoint.serving.breaker import BreakerLimits
from llm_endpoint.serving.endpoint import Endpoint, Shadow, Share, Traffic
from llm_endpoint.serving.limits import ServingLimits
from llm_endpoint.serving.provision import Provision
from llm_endpoint.serving.served_model import ServedModel


@dataclass(frozen=True, slots=True)
class Served:
    """By the names of headrace.yaml."""

    models: Mapping[str, ServedModel]
    endpoints: Mapping[str, Endpoint]

    def engine(self, name: str) -> TextEngine:
        """The endpoint or model of that name."""
        return self.endpoints[name] if name in self.endpoints else self.models[name]

    def problems(self) -> Mapping[str, str]:
        """Models that should be up and are not, by name."""
        return {
            name: "not running yet"
            for name, model in self.models.items()
            if not model.may_stop and not model.is_ready()
        }

    def start(self) -> None:
        """Starts what is always up; in the event loop that will use it."""
        for model in self.models.values():
            model.start()

    async def tick(self) -> None:
        """To be called every second."""
        for model in self.models.values():
            await model.tick()

    async def close(self) -> None:
        for endpoint in self.endpoints.values():
            await endpoint.close()
        for model in self.models.values():
            await model.close()


def build_served(settings: Settings, only: str | None = None) -> Served:
    """All generation models and endpoints, or one with what it needs; nothing is started yet."""
    sections = {name: s for name, s in settings.endpoints.items() if only in (None, name)}
    names = settings.models_by_task["generation"]
    if only is not None:
        names = [only] if only in names else sections[only].models
    models = {name: _model(settings, name) for name in names}
    endpoints = {name: Endpoint(name, _traffic(s, models)) for name, s in sections.items()}
    return Served(models, endpoints)


def _model(settings: Settings, name: str) -> ServedModel:
    section = settings.models[name]
    assert isinstance(section, LlamaCppModel | OpenAIModel | VllmModel)
    serving = section.serving
    limits = ServingLimits(
        min_replicas=serving.min_replicas,
        max_replicas=serving.max_replicas,
        slots=section.parallel,
        idle_s=serving.idle_s,
        queue=serving.queue,
        queue_timeout_s=serving.queue_timeout_s,
        scale_after_s=serving.scale_after_s,
        drain_s=serving.drain_s,
        breaker=BreakerLimits(serving.breaker.failures, serving.breaker.open_s),
    )
    return ServedModel(name, lambda: assembly.build_generator(settings, name), limits)


def _traffic(section: EndpointSection, models: Mapping[str, ServedModel]) -> Traffic:
    shadow, provision = section.shadow, section.provision
    return Traffic(
        shares=[Share(models[name], percent) for name, percent in section.shares.items()],
        fallbacks=[models[name] for name in section.fallbacks],
        fall_back_on=section.fall_back_on,
        patience_s=section.patience_s,
        shadow=None if shadow is None else Shadow(models[shadow.model], shadow.percent),
        max_concurrency=section.max_concurrency,
        provision=None
        if provision is None
        else Provision(provision.tokens_per_s, provision.may_burst),
    )
