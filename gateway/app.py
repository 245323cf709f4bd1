"""The ASGI application over chains that are already running."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from gateway import errors, pyfunc, writing
from gateway.body_limit import BodyLimit
from gateway.disconnect import unless_gone
from gateway.in_flight import InFlightLimit
from gateway.models import ModelControl, NoModels
from gateway.models import router as models_router
from gateway.openai import batches, files
from gateway.openai import routes as openai
from gateway.openai.batch_runner import BatchRunner
from gateway.openai.models import ServedModels
from gateway.traffic import Traffic
from gateway.wire import (
    FeatureForm,
    HitForm,
    IndexForm,
    PreparedResponse,
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    VersionForm,
)
from llm_endpoint.pyfunc import PyfuncScorer
from rag_chain.answer import Answer
from rag_chain.chain import Chain
from rag_chain.question import Question
from rag_chain.retrieval import Lookup, Retriever
from vector_index.filters import Filter, parse_filter
from vector_index.passages import Access

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"description": f"{what}, as `{{error: {{message, type, param, code}}}}`"}
    for status, what in (
        (400, "The question, filter or JSON is not one"),
        (404, "No such chain, index or user"),
        (413, "The body is too large"),
        (422, "A field is missing, unknown or out of bounds"),
        (429, "Too many requests at once; ask again after Retry-After"),
        (503, "The model, the index or the feature store is not there"),
    )
}
_router = APIRouter()


@dataclass(frozen=True, slots=True)
class Backend:
    """What the application serves.

    chains: by name, the default one first. retrievers: by index name.
    access: who every request asks as, until there are keys.
    problems: what keeps the server from being ready, by part; called often, must not block.
    index: what an index is at, by name; called off the event loop. writers: by name, the indexes
    that follow no table. models: what /v1 serves.
    control: what runs. scorers: MLflow models by name, the first of them at /invocations.
    batches: what runs those of /v1/batches; None: there are none. traffic: counts requests.
    """

    chains: Mapping[str, Chain]
    retrievers: Mapping[str, Retriever]
    access: Access
    problems: Callable[[], Mapping[str, str]]
    index: Callable[[str], IndexForm]
    writers: Mapping[str, writing.DocumentWriter] = field(default_factory=dict)
    models: ServedModels = field(default_factory=ServedModels)
    control: ModelControl = field(default_factory=NoModels)
    scorers: Mapping[str, PyfuncScorer] = field(default_factory=dict)
    batches: BatchRunner | None = None
    traffic: Traffic = field(default_factory=Traffic)

    def chain(self, name: str | None) -> Chain:
        """The chain of that name, the first one for None. Raises UnknownChain."""
        wanted = next(iter(self.chains), "") if name is None else name
        if wanted not in self.chains:
            raise errors.UnknownChain(wanted, sorted(self.chains))
        return self.chains[wanted]

    def retriever(self, index: str) -> Retriever:
        """What searches an index. Raises UnknownIndex."""
        if index not in self.retrievers:
            raise errors.UnknownIndex(index, sorted(self.retrievers))
        return self.retrievers[index]


def create_app(
    backend: Backend,
    *,
    max_body_bytes: int,
    max_in_flight: int,
    max_upload_bytes: int = 0,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """The application.

    A body over `max_body_bytes`, or a file over `max_upload_bytes`, is refused with 413, a POST
    beside `max_in_flight` others that are not done with 429.
    """
    app = FastAPI(
        title="Headrace",
        description="Cited answers from Delta and Parquet tables.",
        lifespan=lifespan,
    )
    app.state.backend = backend
    app.include_router(_router)
    app.include_router(writing.router)
    app.include_router(openai.router)
    app.include_router(models_router)
    app.include_router(pyfunc.router)
    uploads = {}
    if backend.batches is not None:
        app.include_router(files.router)
        app.include_router(batches.router)
        uploads[files.PATH] = max_upload_bytes
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, uploads=uploads)
    # Added last, so it stands in front: what is refused is not read either.
    app.add_middleware(InFlightLimit, most=max_in_flight, traffic=backend.traffic)
    errors.install(app)
    return app


@_router.post("/query", response_model=QueryResponse | PreparedResponse, responses=_ERRORS)
async def query(form: QueryRequest, request: Request) -> Response:
    """Answer a question through a chain, with citations.

    With `stream: true` the answer comes as server-sent events: `{"type": "delta", "text"}`,
    then `{"type": "answer", "answer": {…}}` or `{"type": "error", "error": {…}}`, then `[DONE]`.
    """
    backend = _backend(request)
    chain = backend.chain(form.chain)
    where = _where(chain.retriever, form.filter)
    question = Question(form.question, backend.access, form.k, where, form.user)
    if not form.generate:
        return await _prepare(chain, question)
    if form.stream:
        pieces = chain.stream(question)
        # What goes wrong before the first piece is still a plain error with its own status.
        first = await anext(pieces)
        return StreamingResponse(
            _events(first, pieces),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache"},
        )
    answer = await unless_gone(request, chain.answer(question))
    return _json(QueryResponse.of(answer).model_dump_json())


@_router.get("/indexes", responses=_ERRORS)
async def list_indexes(request: Request) -> list[IndexForm]:
    """Every index: its version, how far it is behind its table, and the state of its sync."""
    backend = _backend(request)
    return [await asyncio.to_thread(backend.index, name) for name in backend.retrievers]


@_router.get("/indexes/{name}", responses=_ERRORS)
async def get_index(name: str, request: Request) -> IndexForm:
    """One index: its version, how far it is behind its table, and the state of its sync."""
    backend = _backend(request)
    backend.retriever(name)
    return await asyncio.to_thread(backend.index, name)


@_router.post("/indexes/{name}/search", response_model=SearchResponse, responses=_ERRORS)
async def search(name: str, form: SearchRequest, request: Request) -> Response:
    """Find the passages nearest to a text."""
    backend = _backend(request)
    retriever = backend.retriever(name)
    where = _where(retriever, form.filter)
    lookup = Lookup(form.text, form.k, backend.access, where, form.query_type)
    found = await retriever.search(lookup)
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


async def _prepare(chain: Chain, question: Question) -> Response:
    prepared = await chain.prepare(question)
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


def _where(retriever: Retriever, form: dict[str, object] | None) -> Filter | None:
    return None if form is None else parse_filter(form, retriever.index.metadata_columns)


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend
