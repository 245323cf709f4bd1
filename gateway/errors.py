"""The one table from errors to HTTP, and the one shape in which clients get them.

    {"error": {"message": "...", "type": "invalid_request_error", "param": "k", "code": "..."}}

`param` is the part of the request at fault or null. The shape is OpenAI's.
"""

import logging
import math
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from feature_store.errors import FeatureStoreError
from gateway.disconnect import ClientGone
from gateway.openai.errors import (
    BatchEnded,
    BatchUnknown,
    FileInUse,
    FileUnknown,
    InvalidRequest,
    ModelNotFound,
    StorageFailed,
    TooManyBatches,
    UploadTooLarge,
)
from llm_endpoint import LlmEndpointError
from llm_endpoint.errors import (
    CircuitOpen,
    ContextOverflow,
    EngineBusy,
    EngineDied,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    InputTooLong,
    InvalidText,
    InvalidTokens,
)
from rag_chain.errors import InvalidQuestion, InvalidUser, RagChainError, UnknownUser
from vector_index.errors import (
    IndexFull,
    IndexNotFound,
    InvalidDelta,
    InvalidQuery,
    VectorIndexError,
    WriteFailed,
)

_log = logging.getLogger(__name__)
_SHOWN_CHARACTERS = 80


class UnknownIndex(Exception):
    """The request names an index that this server does not have."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"unknown index {name!r}; this server has: {', '.join(known) or 'none'}")


class UnknownChain(Exception):
    """The request names a chain that this server does not have."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"unknown chain {name!r}; this server has: {', '.join(known) or 'none'}")


class IndexFollowsTable(Exception):
    """The request writes to an index that is kept equal to a table."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"index {name!r} follows a table; write to the table and it will be searchable"
        )


class UnknownScorer(Exception):
    """The request names an MLflow model that this server does not have."""

    def __init__(self, name: str | None, known: list[str]) -> None:
        which = "there is no MLflow model" if name is None else f"unknown MLflow model {name!r}"
        super().__init__(f"{which}; this server has: {', '.join(known) or 'none'}")


class InvalidDocument(Exception):
    """A document of the request cannot be taken; `field` is the part of it at fault."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class _Row:
    error: type[Exception]
    status: int
    code: str
    # Instead of the error's own words, where those could show paths or logs of this machine.
    message: str | None = None


# The first row that matches counts: subclasses stand before their bases.
_TABLE = (
    # Nobody reads it; 499 is what proxies write into their logs for this.
    _Row(ClientGone, 499, "client_gone"),
    _Row(UnknownIndex, 404, "index_not_found"),
    _Row(UnknownChain, 404, "chain_not_found"),
    _Row(UnknownScorer, 404, "model_not_found"),
    _Row(ModelNotFound, 404, "model_not_found"),
    _Row(InvalidRequest, 400, "invalid_value"),
    _Row(FileUnknown, 404, "file_not_found"),
    _Row(FileInUse, 409, "file_in_use"),
    _Row(BatchUnknown, 404, "batch_not_found"),
    _Row(BatchEnded, 409, "batch_ended"),
    _Row(TooManyBatches, 429, "too_many_batches"),
    _Row(UploadTooLarge, 413, "body_too_large"),
    _Row(StorageFailed, 507, "storage_failed", "the file was not kept: the server's disk is full"),
    _Row(IndexFollowsTable, 409, "index_follows_table"),
    _Row(InvalidDocument, 400, "invalid_document"),
    _Row(InvalidDelta, 400, "invalid_document"),
    _Row(IndexFull, 413, "change_too_large"),
    _Row(WriteFailed, 503, "write_failed", "the change was not kept; the server's log says why"),
    _Row(IndexNotFound, 503, "index_not_published"),
    _Row(InvalidQuestion, 400, "invalid_question"),
    _Row(InvalidUser, 400, "invalid_user"),
    _Row(UnknownUser, 404, "user_not_found"),
    _Row(InvalidText, 400, "invalid_question"),
    _Row(InvalidTokens, 400, "invalid_value"),
    _Row(InputTooLong, 400, "context_length_exceeded"),
    _Row(InvalidQuery, 400, "invalid_query"),
    _Row(ContextOverflow, 400, "context_length_exceeded"),
    _Row(EngineBusy, 429, "model_busy"),
    _Row(CircuitOpen, 503, "model_unavailable"),
    _Row(EngineTimeout, 504, "model_timeout"),
    _Row(EngineDied, 503, "model_died", "the model died in the middle of the answer; ask again"),
    _Row(EngineUnavailable, 503, "model_unavailable", "the model is not running; try again soon"),
    _Row(EngineError, 502, "model_failed", "the model failed; the server's log says how"),
    _Row(FeatureStoreError, 503, "features_unavailable", "the feature store cannot be read"),
    _Row(VectorIndexError, 500, "index_failed", "the index failed; the server's log says how"),
    _Row(LlmEndpointError, 500, "model_failed", "the model failed; the server's log says how"),
    _Row(RagChainError, 500, "chain_failed", "the chain failed; the server's log says how"),
)
_UNEXPECTED = _Row(Exception, 500, "internal_error", "unexpected error; the server's log has it")
_CODES = {404: "not_found", 405: "method_not_allowed"}
_PARAMS: dict[type[Exception], str] = {
    UnknownIndex: "index",
    IndexFollowsTable: "index",
    UnknownChain: "chain",
    InvalidQuestion: "question",
    InvalidText: "question",
    InvalidTokens: "input",
    InvalidUser: "user",
    UnknownUser: "user",
}


def explain(error: Exception) -> tuple[int, dict[str, object]]:
    """Status and body of an error; what is not the client's doing is logged."""
    row = next((row for row in _TABLE if isinstance(error, row.error)), _UNEXPECTED)
    if row.status >= 500:
        _log.error("request failed code=%s", row.code, exc_info=error)
    param = getattr(error, "field", None) or _PARAMS.get(row.error)
    code = error.code if isinstance(error, InvalidRequest) else row.code
    return row.status, envelope(row.status, row.message or str(error), code, param)


def envelope(status: int, message: str, code: str, param: str | None = None) -> dict[str, object]:
    """The body of every error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    # Text that came with the request may not be encodable.
    safe = message.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": safe, "type": kind, "param": param, "code": code}}


def install(app: FastAPI) -> None:
    """Makes the app answer every error in our shape."""
    known = {row.error for row in _TABLE}
    for error in (*known, Exception):
        app.add_exception_handler(error, _answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    status, body = explain(error)
    return JSONResponse(body, status, headers=retry_after(error))


def retry_after(error: Exception) -> dict[str, str] | None:
    """When to come back, in whole seconds as clients read it; None where nobody knows."""
    after_s = getattr(error, "retry_after_s", None)
    return None if after_s is None else {"Retry-After": str(max(1, math.ceil(after_s)))}


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        message = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
        return JSONResponse(envelope(400, message, "invalid_json"), 400)
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    given = repr(first["input"])
    shown = given if len(given) <= _SHOWN_CHARACTERS else given[:_SHOWN_CHARACTERS] + "…"
    message = f"{param or 'body'}: {first['msg']}, got {shown}"
    return JSONResponse(envelope(422, message, "invalid_request", param), 422)


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "http_error")
    message = f"{request.method} {request.scope['path']}: {error.detail}"
    return JSONResponse(
        envelope(error.status_code, message, code), error.status_code, headers=error.headers
    )
