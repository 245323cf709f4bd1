"""/v1/files: what batches read and write."""

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse

from gateway.openai.batch_runner import BatchRunner
from gateway.openai.errors import FileInUse, InvalidRequest, Unsupported
from gateway.openai.file_store import FileInfo, FileStore
from gateway.openai.pages import page
from gateway.openai.upload import Upload, receive_upload

router = APIRouter(tags=["OpenAI"])

PATH = "/v1/files"
_PURPOSE = "batch"
_FIELDS = ("purpose",)


@router.post(PATH)
async def upload_file(request: Request) -> JSONResponse:
    """Keep a file of requests, one JSON object a line, for a batch."""
    files = _files(request)
    with files.draft() as draft:
        upload = await receive_upload(request, draft.content)
        name = _checked(upload)
        kept = await asyncio.to_thread(files.keep, draft, filename=name, purpose=_PURPOSE)
    return JSONResponse(kept.form())


@router.get(PATH)
async def list_files(
    request: Request,
    purpose: str | None = None,
    limit: int = 10_000,
    order: str = "desc",
    after: str | None = None,
) -> JSONResponse:
    """Every file, newest first."""
    found = await asyncio.to_thread(_files(request).all)
    wanted = [file.form() for file in found if purpose in (None, file.purpose)]
    return JSONResponse(page(wanted, limit=limit, order=order, after=after, most=10_000))


@router.get(PATH + "/{file_id}")
async def get_file(file_id: str, request: Request) -> JSONResponse:
    """One file, without its content."""
    return JSONResponse((await _info(request, file_id)).form())


@router.get(PATH + "/{file_id}/content")
async def get_content(file_id: str, request: Request) -> FileResponse:
    """The bytes of a file."""
    info = await _info(request, file_id)
    content: Path = await asyncio.to_thread(_files(request).content, file_id)
    return FileResponse(content, media_type="application/octet-stream", filename=info.filename)


@router.delete(PATH + "/{file_id}")
async def delete_file(file_id: str, request: Request) -> JSONResponse:
    """Remove a file that no batch still reads."""
    runner: BatchRunner = request.app.state.backend.batches
    if batch := runner.reader_of(file_id):
        raise FileInUse(file_id, batch)
    await asyncio.to_thread(_files(request).delete, file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _checked(upload: Upload) -> str:
    """The file's name. Raises InvalidRequest."""
    for field in upload.fields:
        if field not in _FIELDS:
            raise Unsupported(field, "is not supported; send file and purpose")
    purpose = upload.fields.get("purpose")
    if purpose != _PURPOSE:
        raise InvalidRequest("purpose", f"is {purpose!r}; files are kept for 'batch' only")
    if upload.filename is None:
        raise InvalidRequest("file", "is missing")
    return upload.filename


async def _info(request: Request, file_id: str) -> FileInfo:
    return await asyncio.to_thread(_files(request).info, file_id)


def _files(request: Request) -> FileStore:
    runner: BatchRunner = request.app.state.backend.batches
    return runner.files
