"""/v1/embeddings."""

import base64
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field

from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.forms import EncodingFormat, Form, read, refuse_unknown
from gateway.openai.models import ServedModels
from llm_endpoint.embedding.protocol import Purpose
from llm_endpoint.errors import InputTooLong

MAX_INPUTS = 2048
_Input = TypeVar("_Input", str, list[int])


class EmbeddingForm(Form):
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: EncodingFormat = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    input_type: Purpose = "passage"
    truncate: Literal["NONE", "END"] = "NONE"


async def embeddings(models: ServedModels, body: Mapping[str, object]) -> bytes:
    """The answer. Raises InvalidRequest, ModelNotFound, and the errors of `TextEmbeddings`."""
    form = read(EmbeddingForm, body)
    embedder = models.embedder(form.model)
    refuse_unknown(form)
    dim = embedder.info.dim
    if form.dimensions not in (None, dim):
        raise Unsupported(
            "dimensions",
            f"is {form.dimensions}; {form.model} makes vectors of {dim} dimensions only",
        )
    inputs = _inputs(form.input)
    try:
        made = await embedder.embed(
            inputs,
            purpose=form.input_type,
            may_cut=form.truncate == "END",
            timeout_s=models.timeout_s,
        )
    except InputTooLong as exc:
        raise InvalidRequest(
            f"input.{exc.index}",
            f"has at least {exc.tokens} tokens and {form.model} reads {exc.max_tokens}; send "
            'shorter texts, or `truncate: "END"` to leave the rest of them out',
            code="context_length_exceeded",
        ) from exc
    rows = _base64(made.vectors) if form.encoding_format == "base64" else made.vectors
    data = [
        {"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    answer = {"object": "list", "data": data, "model": form.model, "usage": usage}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _inputs(given: str | list[str] | list[int] | list[list[int]]) -> list[str] | list[list[int]]:
    """A list of texts or of lists of token ids, none of them empty."""
    if isinstance(given, str):
        return _checked([given])
    if not given:
        raise InvalidRequest("input", "is empty; send at least one text")
    if isinstance(given[0], str):
        return _checked([one for one in given if isinstance(one, str)])
    if isinstance(given[0], int):
        return _checked([[token for token in given if isinstance(token, int)]])
    return _checked([one for one in given if isinstance(one, list)])


def _checked(inputs: list[_Input]) -> list[_Input]:
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest("input", f"has {len(inputs)} texts; at most {MAX_INPUTS} a request")
    empty = next((index for index, one in enumerate(inputs) if not one), None)
    if empty is not None:
        raise InvalidRequest(f"input.{empty}", "is empty; leave it out")
    return inputs


def _base64(vectors: NDArray[np.float32]) -> list[str]:
    """Little-endian float32, as OpenAI's SDK decodes it."""
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in rows]
