"""The endpoints of headrace.yaml: a name before several models."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from headrace.model_settings import Section

_Percent = Annotated[int, Field(ge=0, le=100)]
_Failure = Literal["unavailable", "timeout", "failed", "busy", "died", "invalid"]


class ShadowSection(Section):
    """A model that is asked the same in `percent` of the requests; nobody hears what it says."""

    model: str
    percent: int = Field(ge=1, le=100)


class ProvisionSection(Section):
    """Tokens a second, of prompts and answers, that go before other requests of the same models.

    may_burst: whether more is answered too, like any other request, or refused with 429.
    """

    tokens_per_s: float = Field(gt=0)
    may_burst: bool = True


class EndpointSection(Section):
    """How requests are spread over models; see llm_endpoint.serving.endpoint.Traffic."""

    shares: dict[str, _Percent] = Field(min_length=1)
    fallbacks: tuple[str, ...] = ()
    fall_back_on: tuple[_Failure, ...] = ("unavailable", "timeout", "failed", "busy", "died")
    patience_s: float | None = Field(None, gt=0)
    shadow: ShadowSection | None = None
    max_concurrency: int | None = Field(None, ge=1)
    provision: ProvisionSection | None = None

    @property
    def models(self) -> list[str]:
        """Every model that it names, once."""
        shadow = [] if self.shadow is None else [self.shadow.model]
        return list(dict.fromkeys([*self.shares, *self.fallbacks, *shadow]))

    @model_validator(mode="after")
    def _check_shares(self) -> "EndpointSection":
        if (total := sum(self.shares.values())) != 100:
            raise PydanticCustomError(
                "shares", "the shares add up to {total} per cent, not to 100", {"total": total}
            )
        return self
