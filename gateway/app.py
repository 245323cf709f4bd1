"""The ASGI application over chains that are already running."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from gateway import errors
from gateway.body_limit import BodyLimit
from gateway.wire import (
    FeatureForm,
    HitForm,
    PreparedResponse,
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    VersionForm,
)
from rag_chain.answer import Answer
from rag_chain.chain import Chain
from vector_index.filters import Filter, parse_filter
from vector_index.passages import Access

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"description": f"{what}, as `{{error: {{message, type, param, code}}}}`"}
    for status, what in (
        (400, "The question, filter or JSON is not one"),
        (404, "No such index or user"),
        (413, "The body is too large"),
        (422, "A field is missing, unknown or out of bounds"),
        (503, "The model, the index or the feature store is not there"),
    )
}
_router = APIRouter()


@dataclass(frozen=True, slots=True)
class Backend:
    """What the application serves.

    chains: by index name. access: who every request asks as, until there are keys.
    problems: what keeps the server from being ready, by part; called often, must not block.
    """

    chains: Mapping[str, Chain]
    access: Access
    problems: Callable[[], Mapping[str, str]]

    def chain(self, index: str) -> Chain:
        """The chain over an index. Raises UnknownIndex."""
        if index not in self.chains:
            raise errors.UnknownIndex(index, sorted(self.chains))
        return self.chains[index]


def create_app(
    backend: Backend,
    *,
    max_body_bytes: int,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """The application. A body over `max_body_bytes` is refused with 413."""
    app = FastAPI(
        title="Headrace",
        description="Cited answers from Delta and Parquet tables.",
        lifespan=lifespan,
    )
    app.state.backend = backend
    app.include_router(_router)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    errors.install(app)
    return app


@_router.post("/query", response_model=QueryResponse | PreparedResponse, responses=_ERRORS)
async def query(form: QueryRequest, request: Request) -> Response:
    """Answer a question from an index, with citations.

    With `stream: true` the answer comes as server-sent events: `{"type": "delta", "text"}`,
    then `{"type": "answer", "answer": {…}}` or `{"type": "error", "error": {…}}`, then `[DONE]`.
    """
    backend = _backend(request)
    chain = backend.chain(form.index)
    where = _where(chain, form.filter)
    if not form.generate:
        return await _prepare(chain, backend.access, form, where)
    if form.stream:
        pieces = chain.stream(
            form.question, access=backend.access, k=form.k, where=where, user=form.user
        )
        # What goes wrong before the first piece is still a plain error with its own status.
        first = await anext(pieces)
        return StreamingResponse(
            _events(first, pieces),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache"},
        )
    answer = await chain.answer(
        form.question, access=backend.access, k=form.k, where=where, user=form.user
    )
    return _json(QueryResponse.of(answer).model_dump_json())


@_router.post("/indexes/{name}/search", response_model=SearchResponse, responses=_ERRORS)
async def search(name: str, form: SearchRequest, request: Request) -> Response:
    """Find the passages nearest to a text."""
    backend = _backend(request)
    chain = backend.chain(name)
    where = _where(chain, form.filter)
    found = await chain.search(form.text, access=backend.access, k=form.k, where=where)
    hits = [HitForm.of(hit) for hit in found.hits]
    response = SearchResponse(hits=hits, version=VersionForm.of(found.version))
    return _json(response.model_dump_json())


@_router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Says that the process serves HTTP."""
    return {"status": "ok"}


@_router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Says whether questions can be answered now; 503 with the parts that are not ready."""
    problems = dict(_backend(request).problems())
    status = "not ready" if problems else "ready"
    return JSONResponse({"status": status, "problems": problems}, 503 if problems else 200)


async def _prepare(
    chain: Chain, access: Access, form: QueryRequest, where: Filter | None
) -> Response:
    prepared = await chain.prepare(
        form.question, access=access, k=form.k, where=where, user=form.user
    )
    response = PreparedResponse(
        passages=[HitForm.of(hit) for hit in prepared.kept],
        messages=[{"role": m.role, "content": m.content} for m in prepared.messages],
        version=VersionForm.of(prepared.version),
        features=[FeatureForm.of(feature) for feature in prepared.features],
        timings_s=dict(prepared.timings_s),
    )
    return _json(response.model_dump_json())


async def _events(
    first: str | Answer, pieces: AsyncGenerator[str | Answer, None]
) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(pieces):
        try:
            yield _event(first)
            async for piece in pieces:
                yield _event(piece)
        except Exception as exc:  # noqa: BLE001 - the status is sent; the client must still learn
            _, body = errors.explain(exc)
            yield _data({"type": "error", **body})
    yield b"data: [DONE]\n\n"


def _event(piece: str | Answer) -> bytes:
    if isinstance(piece, str):
        return _data({"type": "delta", "text": piece})
    return _data({"type": "answer", "answer": QueryResponse.of(piece).model_dump(mode="json")})


def _data(form: Mapping[str, object]) -> bytes:
    return b"data: " + orjson.dumps(form) + b"\n\n"


def _json(body: str) -> Response:
    return Response(body, media_type="application/json")


def _where(chain: Chain, form: dict[str, object] | None) -> Filter | None:
    return None if form is None else parse_filter(form, chain.index.metadata_columns)


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend
