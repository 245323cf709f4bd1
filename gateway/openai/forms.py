"""Reading a body: pydantic's errors as OpenAI's, every field that is not honoured by name."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.openai.errors import InvalidRequest, Unsupported

_T = TypeVar("_T", bound=BaseModel)
_SHOWN_CHARACTERS = 80

Count = Annotated[int, Field(ge=1)]
EncodingFormat = Literal["float", "base64"]
# They say who asks and why, or how fast; they change no token of the answer.
HARMLESS = (
    "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "prediction",
)  # fmt: skip


class Form(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str

    def extra(self, *, besides: Iterable[str] = ()) -> list[str]:
        """Fields that came beside those of the form, those that change nothing, and `besides`."""
        known = {*HARMLESS, *besides}
        given = (self.model_extra or {}).items()
        return [key for key, value in given if value is not None and key not in known]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    # Padding against guesses at lengths: we send none, which is one of its values.
    include_obfuscation: bool | None = None


class WritingForm(Form):
    """What chat and plain completions have in common."""

    max_tokens: Count | None = None
    n: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None


def read(form: type[_T], body: Mapping[str, object]) -> _T:
    """The body as a form. Raises InvalidRequest, naming the first field that is wrong."""
    try:
        return form.model_validate(dict(body))
    except ValidationError as exc:
        # Of a value that may be of several types, the last says least; the first is what we list.
        first = exc.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "body"
        shown = repr(first["input"])
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[:_SHOWN_CHARACTERS]}…"
        raise InvalidRequest(path, f"{first['msg']}, got {shown}") from exc


def refuse(body: Mapping[str, object], unsupported: Mapping[str, str]) -> None:
    """Raises Unsupported for the first field that is given and would have changed the answer.

    unsupported: by field, what to do instead.
    """
    for field, advice in unsupported.items():
        if body.get(field) not in (None, False, [], {}):
            raise Unsupported(field, f"is not supported; {advice}")


def refuse_unknown(form: Form, *, besides: Iterable[str] = ()) -> None:
    """Raises Unsupported for the first field that nobody would read."""
    for field in form.extra(besides=besides):
        raise Unsupported(field, "is not a field of this request; leave it out")


def without(body: Mapping[str, object], *fields: str) -> dict[str, object]:
    """The body less those fields, and less all that are null."""
    return {key: value for key, value in body.items() if key not in fields and value is not None}
