"""MLflow models over HTTP, as MLflow's own scoring server answers; what is ours is in its shape.

{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "..."}
"""

from collections.abc import Coroutine, Mapping
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from gateway import errors
from gateway.disconnect import unless_gone
from llm_endpoint.errors import EngineError
from llm_endpoint.pyfunc import PyfuncScorer, Scored

router = APIRouter(tags=["MLflow"])

_CODES = {
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "RESOURCE_EXHAUSTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@router.post("/models/{name}/invocations")
async def invocations(name: str, request: Request) -> Response:
    """What the model predicts for the rows, inputs or messages of the body."""
    return await _invoke(request, name)


@router.post("/invocations")
async def default_invocations(request: Request) -> Response:
    """As `/models/{name}/invocations`, of the first MLflow model."""
    return await _invoke(request, None)


@router.get("/models/{name}/ping")
@router.get("/models/{name}/health", include_in_schema=False)
async def ping(name: str, request: Request) -> Response:
    """200 once the model is loaded."""
    return await _get(request, name, "/ping")


@router.get("/ping")
@router.get("/health", include_in_schema=False)
async def default_ping(request: Request) -> Response:
    """As `/models/{name}/ping`, of the first MLflow model."""
    return await _get(request, None, "/ping")


@router.get("/models/{name}/version")
async def version(name: str, request: Request) -> Response:
    """The version of MLflow in the model's environment."""
    return await _get(request, name, "/version")


@router.get("/version")
async def default_version(request: Request) -> Response:
    """As `/models/{name}/version`, of the first MLflow model."""
    return await _get(request, None, "/version")


async def _invoke(request: Request, name: str | None) -> Response:
    body = await request.body()
    content_type = request.headers.get("content-type")
    try:
        work = _scorer(request, name).invoke(body, content_type)
    except errors.UnknownScorer as exc:
        return _failure(exc)
    return await _answer(request, work)


async def _get(request: Request, name: str | None, path: Literal["/ping", "/version"]) -> Response:
    try:
        scorer = _scorer(request, name)
    except errors.UnknownScorer as exc:
        return _failure(exc)
    if not scorer.is_ready():
        # Whoever asks whether it is up wants to be told, not to wait until it is.
        return _json_error(503, f"the model {scorer.name} is not running yet")
    return await _answer(request, scorer.get(path))


async def _answer(request: Request, work: Coroutine[None, None, Scored]) -> Response:
    try:
        scored = await unless_gone(request, work)
    except EngineError as exc:
        return _failure(exc)
    headers = {} if scored.content_type is None else {"content-type": scored.content_type}
    return Response(scored.body, scored.status, headers=headers)


def _failure(exc: Exception) -> Response:
    status, form = errors.explain(exc)
    told = form["error"]
    assert isinstance(told, dict)
    return _json_error(status, str(told["message"]), errors.retry_after(exc))


def _json_error(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    code = _CODES.get(status, "INTERNAL_ERROR")
    return JSONResponse({"error_code": code, "message": message}, status, headers=headers)


def _scorer(request: Request, name: str | None) -> PyfuncScorer:
    scorers: Mapping[str, PyfuncScorer] = request.app.state.backend.scorers
    wanted = next(iter(scorers), None) if name is None else name
    if wanted is None or wanted not in scorers:
        raise errors.UnknownScorer(wanted, sorted(scorers))
    return scorers[wanted]
