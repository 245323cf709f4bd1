"""Indexes that follow no table: opened for writing by a server, and by it alone."""

import logging
import threading
from collections.abc import Collection, Sequence

from gateway import DocumentForm, IndexForm, InvalidDocument, VersionForm
from headrace import assembly, indexes
from headrace.settings import Settings
from llm_endpoint.embedding.protocol import Embedder
from pipelines.direct import DirectIndex, Document
from pipelines.errors import BadDocument
from vector_index.errors import VectorIndexError
from vector_index.generation import read_current
from vector_index.passages import Access, IndexVersion
from vector_index.writer import IndexWriter

_log = logging.getLogger(__name__)


class ServedDirectIndex:
    """The writer of an index, searched by the same server; a gateway `DocumentWriter`.

    A change is searchable here and in the log on the disk when the call returns; other processes
    see it with the next flush.
    """

    def __init__(
        self,
        name: str,
        writer: IndexWriter,
        documents: DirectIndex,
        access: Access,
        *,
        flush_every_s: float,
    ) -> None:
        self.index = writer
        self._name = name
        self._documents = documents
        self._access = access
        self._flush_every_s = flush_every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._flush_on, name="flush-index", daemon=True)

    def start(self) -> None:
        """Flushes until stop()."""
        self._thread.start()

    def stop(self) -> None:
        """Ends flushing, publishes what is left, and lets the next writer in."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._flush()
        self.index.close()

    def upsert(self, documents: Sequence[DocumentForm]) -> IndexVersion:
        """Writes all or none. Raises InvalidDocument, and errors of the rooms below."""
        try:
            return self._documents.upsert([self._document(form) for form in documents])
        except BadDocument as exc:
            raise InvalidDocument(str(exc), exc.field) from exc

    def delete(self, document_ids: Collection[str]) -> IndexVersion:
        """Takes these out; ids that are not there change nothing."""
        return self._documents.delete(document_ids)

    def form(self) -> IndexForm:
        """What a server says of the index: there is no table to be behind."""
        documents, passages = self.index.count()
        version = VersionForm.of(self.index.version())
        return IndexForm(
            name=self._name, documents=documents, passages=passages, version=version, lag=None,
            problem=None, sync=None,
        )  # fmt: skip

    def _document(self, form: DocumentForm) -> Document:
        tenant = form.tenant
        if self.index.settings.has_tenant:
            tenant = self._access.tenant if tenant is None else tenant
            if tenant != self._access.tenant:
                raise InvalidDocument(
                    f"document {form.id!r} is to be of tenant {tenant!r}; you may write for "
                    f"{self._access.tenant!r} only",
                    "tenant",
                )
        return Document(
            id=form.id,
            text=form.text,
            title=form.title,
            vector=form.vector,
            tenant=tenant,
            groups=None if form.groups is None else tuple(form.groups),
            updated_at=form.updated_at,
            metadata=form.metadata,
        )

    def _flush_on(self) -> None:
        while not self._stopping.wait(self._flush_every_s):
            self._flush()

    def _flush(self) -> None:
        try:
            self.index.flush()
        except VectorIndexError as exc:  # still searchable and in the log: the next one tries again
            _log.warning("not_flushed index=%s reason=%s", self._name, exc)


def open_direct(settings: Settings, name: str, embedder: Embedder) -> ServedDirectIndex:
    """Opens the index for writing, made empty where there is none yet.

    Raises IndexBusy while another server writes it, SettingsMismatch and EmbedderMismatch where
    it was made otherwise.
    """
    section = settings.direct_indexes[name]
    home = indexes.index_home(settings, name)
    if read_current(home) is None:
        indexes.create_direct(settings, name, embedder)
    writer = IndexWriter(home, indexes.direct_index_settings(settings, name, embedder))
    chunk = indexes.build_chunker(settings, name, embedder)
    documents = DirectIndex(writer, embedder, chunk, max_text_bytes=section.max_text_bytes)
    access = assembly.access_of(settings)
    return ServedDirectIndex(name, writer, documents, access, flush_every_s=section.flush_every_s)
