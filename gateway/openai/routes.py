"""/v1 over HTTP."""

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway import errors
from gateway.disconnect import unless_gone
from gateway.openai.dispatch import OPERATIONS, Reply, Streamed
from gateway.openai.errors import InvalidRequest
from gateway.openai.models import ServedModels

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models")
async def list_models(request: Request) -> JSONResponse:
    """Every model, with its task."""
    models = _models(request)
    return JSONResponse({"object": "list", "data": [models.form(name) for name in models.tasks()]})


@router.get("/v1/models/{name:path}")
async def get_model(name: str, request: Request) -> JSONResponse:
    """One model."""
    return JSONResponse(_models(request).form(name))


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """A model's answer to a conversation; with `stream: true` as server-sent events."""
    return await _respond(request, "/v1/chat/completions")


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """A text, gone on with."""
    return await _respond(request, "/v1/completions")


@router.post("/v1/responses")
async def responses(request: Request) -> Response:
    """A model's answer, in the shape of OpenAI's Responses."""
    return await _respond(request, "/v1/responses")


@router.post("/v1/embeddings")
async def embeddings(request: Request) -> Response:
    """Vectors of texts."""
    return await _respond(request, "/v1/embeddings")


@router.post("/v1/rerank")
@router.post("/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
async def rerank(request: Request) -> Response:
    """How well each document answers a query."""
    return await _respond(request, "/v1/rerank")


async def _respond(request: Request, path: str) -> Response:
    body = await json_body(request)
    begun = _begun(OPERATIONS[path](_models(request), body))
    reply, first = await unless_gone(request, begun)
    if isinstance(reply, bytes):
        return Response(reply, media_type="application/json")
    return _EventStream(first, reply)


class _EventStream(StreamingResponse):
    """The events of a reply, which is closed however this ends: nobody may ever have read it."""

    def __init__(self, first: bytes | None, reply: Streamed) -> None:
        super().__init__(
            _lines(first, reply),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )
        self._events = reply.events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def _begun(operation: Awaitable[Reply]) -> tuple[Reply, bytes | None]:
    """The reply, and its first event: what goes wrong before it is an error with its own status."""
    reply = await operation
    return reply, None if isinstance(reply, bytes) else await anext(reply.events, None)


async def _lines(first: bytes | None, reply: Streamed) -> AsyncGenerator[bytes, None]:
    async with aclosing(reply.events):
        try:
            if first is not None:
                yield _line(first, reply)
            async for event in reply.events:
                yield _line(event, reply)
        except Exception as exc:  # noqa: BLE001 - the status is sent; the client must still learn
            yield _line(orjson.dumps(errors.explain(exc)[1]), reply)
    if not reply.is_named:
        yield b"data: [DONE]\n\n"


def _line(event: bytes, reply: Streamed) -> bytes:
    if not reply.is_named:
        return b"data: " + event + b"\n\n"
    kind = str(orjson.loads(event)["type"])
    return b"event: " + kind.encode() + b"\ndata: " + event + b"\n\n"


async def json_body(request: Request) -> dict[str, object]:
    """The body's JSON object. Raises InvalidRequest."""
    raw = await request.body()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest("body", f"is not JSON: {exc}", code="invalid_json") from exc
    if not isinstance(body, dict):
        raise InvalidRequest("body", f"must be a JSON object, got {type(body).__name__}")
    return body


def _models(request: Request) -> ServedModels:
    models: ServedModels = request.app.state.backend.models
    return models
