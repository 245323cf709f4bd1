"""What models may use: the `devices` of headrace.yaml."""

from pydantic import Field

from headrace.model_settings import Section


class CardSection(Section):
    """The memory of a card, in 10^6 bytes."""

    memory_mb: int = Field(ge=1)


class DevicesSection(Section):
    """Cores and memory (10^6 bytes) of the CPU for models, None for what this machine has; cards
    by their numbers."""

    cores: int | None = Field(None, ge=1)
    memory_mb: int | None = Field(None, ge=1)
    gpus: dict[int, CardSection] = Field(default_factory=dict)
