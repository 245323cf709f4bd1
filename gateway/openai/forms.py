"""Reading a body: pydantic's errors as OpenAI's, every field that is not honoured by name."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.openai.errors import InvalidRequest, Unsupported

_T = TypeVar("_T", bound=BaseModel)
_SHOWN_CHARACTERS = 80

Count = Annotated[int, Field(ge=1)]


class Form(BaseModel):
    """A request. Fields that we do not know are the engine's to take or to refuse."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool | None = None


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
    seed: int | None = None


EncodingFormat = Literal["float", "base64"]


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
        if body.get(field) not in (None, False):
            raise Unsupported(field, f"is not supported; {advice}")


def without(body: Mapping[str, object], *fields: str) -> dict[str, object]:
    """The body less those fields, and less all that are null."""
    return {key: value for key, value in body.items() if key not in fields and value is not None}
