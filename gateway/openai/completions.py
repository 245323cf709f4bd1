"""/v1/completions: a text goes on."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.extras import check_extras
from gateway.openai.forms import HARMLESS, WritingForm, read, refuse, without
from gateway.openai.models import ServedModels
from gateway.openai.writing import Asked, check_bounds, wants_usage

_UNSUPPORTED = {
    "suffix": "the model only writes what follows",
    "echo": "put the prompt in front of the answer yourself",
}


class CompletionForm(WritingForm):
    prompt: str | list[str] | list[int] | list[list[int]]
    best_of: int | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


def completions(models: ServedModels, body: Mapping[str, object]) -> Asked:
    """The request, checked. Raises InvalidRequest, ModelNotFound."""
    form = read(CompletionForm, body)
    engine = models.generator(form.model)
    refuse(body, _UNSUPPORTED)
    check_extras(form.extra(besides=_UNSUPPORTED), engine.info.engine, form.model)
    if form.best_of not in (None, 1):
        raise Unsupported("best_of", f"is {form.best_of}; one answer is written, leave it out")
    check_bounds(form, form.max_tokens, engine.info)
    own = without(body, *HARMLESS, *_UNSUPPORTED, "best_of", "stream_options")
    own["prompt"] = _one(form.prompt)
    return Asked(engine, "completions", own, models.timeout_s, wants_usage(form))


def _one(prompt: str | list[str] | list[int] | list[list[int]]) -> str | list[int]:
    """The one prompt of the request, as a text or as token ids."""
    if isinstance(prompt, str):
        return prompt
    if not prompt:
        raise InvalidRequest("prompt", "is empty; send a text")
    if isinstance(prompt[0], int):
        return [token for token in prompt if isinstance(token, int)]
    if len(prompt) > 1:
        raise Unsupported("prompt", f"has {len(prompt)} prompts; send one a request, side by side")
    (only,) = prompt
    assert isinstance(only, str | list)
    return only
