"""/v1/batches: many requests at once, where nobody waits."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from gateway.openai.batch_runner import BatchRunner
from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.forms import read
from gateway.openai.pages import page
from gateway.openai.routes import json_body

router = APIRouter(tags=["OpenAI"])

_MOST_PAIRS = 16
_Key = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


class BatchForm(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: dict[_Key, _Value] | None = None


@router.post("/v1/batches")
async def create_batch(request: Request) -> JSONResponse:
    """Ask every request of a file, behind whoever is waiting, within 24 hours."""
    form = read(BatchForm, await json_body(request))
    for field, value in (form.model_extra or {}).items():
        if value is not None:
            raise Unsupported(field, "is not supported; leave it out")
    if form.metadata is not None and len(form.metadata) > _MOST_PAIRS:
        raise InvalidRequest("metadata", f"has {len(form.metadata)} pairs; at most {_MOST_PAIRS}")
    runner = _runner(request)
    batch = await runner.create(form.endpoint, form.input_file_id, form.metadata)
    return JSONResponse(batch.form())


@router.get("/v1/batches")
async def list_batches(request: Request, limit: int = 20, after: str | None = None) -> JSONResponse:
    """Every batch, newest first."""
    forms = [batch.form() for batch in _runner(request).all()]
    return JSONResponse(page(forms, limit=limit, order="desc", after=after, most=100))


@router.get("/v1/batches/{batch_id}")
async def get_batch(batch_id: str, request: Request) -> JSONResponse:
    """One batch, and how far it is."""
    return JSONResponse(_runner(request).get(batch_id).form())


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: str, request: Request) -> JSONResponse:
    """End a batch with the answers that are there."""
    return JSONResponse((await _runner(request).cancel(batch_id)).form())


def _runner(request: Request) -> BatchRunner:
    runner: BatchRunner = request.app.state.backend.batches
    return runner
