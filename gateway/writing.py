"""Documents written over HTTP into the indexes that follow no table."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import IndexFollowsTable, UnknownIndex
from gateway.wire import VersionForm
from vector_index.passages import IndexVersion

MAX_DOCUMENTS = 1000
MAX_IDS = 10_000

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"description": f"{what}, as `{{error: {{message, type, param, code}}}}`"}
    for status, what in (
        (400, "A document cannot be taken; none of the request was"),
        (404, "No such index"),
        (409, "The index follows a table: write to the table"),
        (413, "The body is too large, or the change for what may wait in memory"),
        (422, "A field is missing, unknown or out of bounds"),
        (429, "Too many requests at once; ask again after Retry-After"),
        (503, "The change could not be kept; nothing of it was"),
    )
}
_Id = Annotated[str, Field(min_length=1, max_length=1024)]

router = APIRouter()


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DocumentForm(_Form):
    """A document to write, in place of what was there under its id."""

    id: _Id = Field(examples=["note-1"])
    text: str = Field(examples=["Refunds take 14 days."])
    title: str = ""
    vector: list[float] | None = Field(
        None, description="Of the whole text, which is then one passage. null: it is embedded."
    )
    tenant: str | None = Field(
        None, description="Where the index has tenants; null: the asker's own."
    )
    groups: list[str] | None = Field(None, description="Who may see it, where the index has them.")
    updated_at: datetime | None = None
    metadata: dict[str, object] = Field(
        default_factory=dict, description="By the columns of the index.", examples=[{"kind": "n"}]
    )


class UpsertRequest(_Form):
    """Documents to write: all of them or, on any error, none."""

    documents: list[DocumentForm] = Field(min_length=1, max_length=MAX_DOCUMENTS)


class DeleteRequest(_Form):
    """Documents to take out; ids that are not there change nothing."""

    ids: list[_Id] = Field(min_length=1, max_length=MAX_IDS)


class ChangeResponse(_Form):
    """A change that is on the disk, and that every search of this server sees from now on.

    documents: how many were named. sequence: of the change, in the order of all changes.
    """

    documents: int
    sequence: int
    version: VersionForm


class DocumentWriter(Protocol):
    """An index that is written to. Called off the event loop, by several threads."""

    def upsert(self, documents: Sequence[DocumentForm]) -> IndexVersion:
        """Writes all or none. Raises InvalidDocument, and errors of the rooms below."""

    def delete(self, document_ids: Collection[str]) -> IndexVersion:
        """Takes these out."""


@router.post("/indexes/{name}/upsert", responses=_ERRORS)
async def upsert(name: str, form: UpsertRequest, request: Request) -> ChangeResponse:
    """Write documents into an index that follows no table; they are searchable at once."""
    writer = _writer(request, name)
    version = await asyncio.to_thread(writer.upsert, form.documents)
    return _change(len(form.documents), version)


@router.post("/indexes/{name}/delete", responses=_ERRORS)
async def delete(name: str, form: DeleteRequest, request: Request) -> ChangeResponse:
    """Take documents out of an index that follows no table, at once."""
    writer = _writer(request, name)
    version = await asyncio.to_thread(writer.delete, form.ids)
    return _change(len(form.ids), version)


def _writer(request: Request, name: str) -> DocumentWriter:
    backend = request.app.state.backend
    writers: Mapping[str, DocumentWriter] = backend.writers
    if name in writers:
        return writers[name]
    if name in backend.retrievers:
        raise IndexFollowsTable(name)
    raise UnknownIndex(name, sorted(backend.retrievers))


def _change(documents: int, version: IndexVersion) -> ChangeResponse:
    return ChangeResponse(
        documents=documents, sequence=version.sequence, version=VersionForm.of(version)
    )
