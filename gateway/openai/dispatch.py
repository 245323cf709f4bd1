"""Every operation by its path, for HTTP and for batches alike."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson

from gateway import errors
from gateway.openai.chat import chat
from gateway.openai.completions import completions
from gateway.openai.embeddings import embeddings
from gateway.openai.models import ServedModels
from gateway.openai.rerank import rerank
from gateway.openai.responses import responses
from gateway.openai.writing import Asked


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer in events: JSON objects, without framing.

    has_names: each event is named by its `type`. ends_with_done: the last line is `[DONE]`.
    """

    events: AsyncGenerator[bytes, None]
    is_named: bool = False


Reply = bytes | Streamed
Operation = Callable[[ServedModels, Mapping[str, object]], Awaitable[Reply]]


async def _chat(models: ServedModels, body: Mapping[str, object]) -> Reply:
    return await _written(chat(models, body), body)


async def _completions(models: ServedModels, body: Mapping[str, object]) -> Reply:
    return await _written(completions(models, body), body)


async def _responses(models: ServedModels, body: Mapping[str, object]) -> Reply:
    asked = responses(models, body)
    if body.get("stream"):
        return Streamed(asked.events(), is_named=True)
    return await asked.whole()


async def _written(asked: Asked, body: Mapping[str, object]) -> Reply:
    return Streamed(asked.events()) if body.get("stream") else await asked.whole()


OPERATIONS: Mapping[str, Operation] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completions,
    "/v1/responses": _responses,
    "/v1/embeddings": embeddings,
    "/v1/rerank": rerank,
}


# Nobody listens while a batch is answered.
_OF_STREAMS = ("stream", "stream_options")


async def answer(models: ServedModels, path: str, body: Mapping[str, object]) -> tuple[int, bytes]:
    """Status and JSON of one request, as HTTP would have answered it; never a stream.

    path: one of OPERATIONS.
    """
    try:
        own = {key: value for key, value in body.items() if key not in _OF_STREAMS}
        reply = await OPERATIONS[path](models, own)
        assert isinstance(reply, bytes)
        return 200, reply
    except Exception as exc:  # noqa: BLE001 - one line of a batch must not end the others
        status, form = errors.explain(exc)
        return status, orjson.dumps(form)
