"""Calls become requests, responses become results or errors. Pure functions, no I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from urllib.parse import quote

from headrace_client.errors import (
    ApiError,
    ConnectionLost,
    UnexpectedResponse,
    class_of,
)
from headrace_client.fields import Fields
from headrace_client.forms import answer_of, hit_of, version_of
from headrace_client.index_forms import index_of
from headrace_client.results import Answer, Delta, Health, IndexState, SearchResult
from headrace_client.retries import parse_retry_after

# An error inside a stream comes without its status; these are the codes that can happen there.
_STATUS_OF_CODE = {
    "model_died": 503,
    "model_failed": 502,
    "model_timeout": 504,
    "model_unavailable": 503,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `path` is below the base URL."""

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole response."""

    status: int
    body: bytes
    retry_after: str | None = None
    location: str | None = None


HEALTH = Call("GET", "readyz")
INDEXES = Call("GET", "indexes")


def query_call(
    question: str,
    *,
    chain: str | None,
    k: int | None,
    filter: Mapping[str, object] | None,
    user: str | None,
    is_streamed: bool,
) -> Call:
    """POST /query."""
    fields = {"question": question, "chain": chain, "k": k, "filter": filter, "user": user}
    return Call("POST", "query", _encode({**fields, "stream": is_streamed or None}))


def search_call(
    text: str,
    *,
    index: str,
    query_type: str | None,
    k: int | None,
    filter: Mapping[str, object] | None,
) -> Call:
    """POST /indexes/{index}/search."""
    path = f"indexes/{quote(index, safe='')}/search"
    return Call(
        "POST", path, _encode({"text": text, "query_type": query_type, "k": k, "filter": filter})
    )


def index_call(name: str) -> Call:
    """GET /indexes/{name}."""
    return Call("GET", f"indexes/{quote(name, safe='')}")


def body_of(reply: Reply) -> bytes:
    """The body of a 200. Raises ApiError for 400 and above, UnexpectedResponse for the rest."""
    if reply.status == 200:
        return reply.body
    if reply.status >= 400:
        raise _api_error(reply)
    where = f" to {reply.location}" if reply.location else ""
    raise UnexpectedResponse(
        f"the server answered {reply.status}{where} where Headrace answers 200; check base_url"
    )


def decode_answer(body: bytes) -> Answer:
    """Raises UnexpectedResponse, or InvalidField naming what is missing."""
    return answer_of(Fields(_json(body)))


def decode_search(body: bytes) -> SearchResult:
    """Raises UnexpectedResponse, or InvalidField naming what is missing."""
    fields = Fields(_json(body))
    return SearchResult(fields.each("hits", hit_of), version_of(fields.inner("version")))


def decode_indexes(body: bytes) -> tuple[IndexState, ...]:
    """Raises UnexpectedResponse, or InvalidField naming what is missing."""
    return Fields({"indexes": _json(body)}).each("indexes", index_of)


def decode_index(body: bytes) -> IndexState:
    """Raises UnexpectedResponse, or InvalidField naming what is missing."""
    return index_of(Fields(_json(body)))


def decode_health(reply: Reply) -> Health:
    """Not being ready is an answer too, with status 503. Raises as body_of and decode_answer."""
    try:
        problems = Fields(_json(reply.body)).mapping("problems", Fields.text)
    except UnexpectedResponse:
        # Something other than Headrace says 503, or nothing that we know.
        body_of(reply)
        raise
    if reply.status != 503:
        body_of(reply)
    return Health(reply.status == 200, problems)


class EventReader:
    """Reads the events of one stream, in order.

    is_begun: an event was returned. is_answered: the Answer was.
    """

    def __init__(self) -> None:
        self.is_begun = False
        self.is_answered = False

    def read(self, data: str) -> Delta | Answer | None:
        """The event in this data; None for the end mark and for kinds this client does not know.

        Raises ApiError for an error event, UnexpectedResponse, InvalidField.
        """
        if data == "[DONE]":
            return None
        fields = Fields(_json(data.encode()))
        kind = fields.text("type")
        if kind == "error":
            raise _stream_error(fields.inner("error"))
        if kind == "delta":
            self.is_begun = True
            return Delta(fields.text("text"))
        if kind == "answer":
            answer = answer_of(fields.inner("answer"))
            self.is_begun = self.is_answered = True
            return answer
        return None

    def finish(self) -> None:
        """Raises ConnectionLost for a stream that ended before its answer."""
        if not self.is_answered:
            raise ConnectionLost("the stream ended before the answer; ask again")


def _api_error(reply: Reply) -> ApiError:
    retry_after_s = parse_retry_after(reply.retry_after)
    make = class_of(reply.status)
    try:
        message, code, param = _error(Fields(_json(reply.body)).inner("error"))
    except UnexpectedResponse:
        # A proxy in between may answer too; its status still says what to do.
        message = f"the server answered {reply.status} without saying why: {_excerpt(reply.body)}"
        return make(reply.status, message, None, None, retry_after_s)
    return make(reply.status, message, code, param, retry_after_s)


def _stream_error(fields: Fields) -> ApiError:
    message, code, param = _error(fields)
    is_ours = fields.text("type") == "invalid_request_error"
    status = _STATUS_OF_CODE.get(code or "", 400 if is_ours else 500)
    return class_of(status)(status, message, code, param)


def _error(fields: Fields) -> tuple[str, str | None, str | None]:
    nullable = fields.nullable
    return fields.text("message"), nullable("code", Fields.text), nullable("param", Fields.text)


def _encode(fields: Mapping[str, object]) -> bytes:
    """JSON without the fields that are None: the server's own defaults are its to choose."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, default=_encode_time).encode()


def _encode_time(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} in the filter is of type {type(value).__name__}, not JSON")


def _json(body: bytes) -> object:
    try:
        form: object = json.loads(body)
    except ValueError as exc:
        raise UnexpectedResponse(
            f"the response is not JSON ({exc}); is this a Headrace server? "
            f"It begins with {_excerpt(body)}"
        ) from exc
    return form


def _excerpt(body: bytes) -> str:
    return repr(body[:80].decode("utf-8", "replace"))
