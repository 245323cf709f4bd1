"""What a table is to a sync: versions, a pinned snapshot, and which keys changed in between."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from vector_index.passages import Lag, MetadataType, SourceVersion

TextFormat = Literal["plain", "markdown", "html"]
TextFrom = Literal["text", "bytes", "paths"]

_DOCUMENT_ROWS = 64


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which columns of the table mean what.

    vector: a column of float lists of the index's dimension, used in place of an embedder.
    text_format: how `text` is written; HTML and Markdown are indexed as the text they show.
    text_from: what the column `text` holds: text, documents such as PDFs, or paths of such.
    """

    key: str
    title: str
    text: str
    metadata: tuple[str, ...] = ()
    tenant: str | None = None
    groups: str | None = None
    updated_at: str | None = None
    vector: str | None = None
    text_format: TextFormat = "plain"
    text_from: TextFrom = "text"

    def columns(self) -> list[str]:
        """Every mapped column once, in a stable order."""
        named = [self.key, self.title, self.text, *self.metadata]
        optional = [self.tenant, self.groups, self.updated_at, self.vector]
        return list(dict.fromkeys([*named, *(name for name in optional if name is not None)]))

    def batch_rows(self, usual: int) -> int:
        """How many rows to read at a time: fewer where a row may hold a whole document."""
        return min(usual, _DOCUMENT_ROWS) if self.text_from == "bytes" else usual


@dataclass(frozen=True, slots=True)
class ChangedKeys:
    """Every key that was touched between two versions, and perhaps more.

    Whether a key was written or deleted is for the snapshot to say. rows: how many rows the
    snapshot has, so that a sync can tell when a change has been missed.
    """

    keys: frozenset[str]
    rows: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a source does not know which keys changed; the sync then compares all rows."""

    reason: str


class Snapshot(Protocol):
    """One pinned version of a table: whatever is committed meanwhile, it reads the same."""

    @property
    def version(self) -> SourceVersion:
        """Which version it is."""

    @property
    def mapping(self) -> ColumnMapping:
        """Which columns mean what."""

    def hashes(self) -> Mapping[str, str]:
        """Key to content hash of every row. Rows are streamed, only keys and hashes are held.

        Raises BadKeys for null or duplicate keys.
        """

    def rows(self, keys: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        """The mapped columns of the rows with these keys, None for all, in bounded batches."""


class TableSource(Protocol):
    """A table that an index is kept equal to. Safe to use from several threads."""

    @property
    def mapping(self) -> ColumnMapping:
        """Which columns mean what."""

    def metadata_types(self) -> dict[str, MetadataType]:
        """The filterable type of each mapped metadata column. Raises SchemaMismatch."""

    def version(self) -> SourceVersion:
        """The newest committed version: cheap enough to ask several times a second."""

    def lag(self, indexed: SourceVersion) -> Lag:
        """How far behind the newest version an index of `indexed` is."""

    def snapshot(self) -> Snapshot:
        """The newest version, pinned. Raises PipelineError where it cannot be indexed."""

    def changed_keys(self, since: SourceVersion, to: Snapshot) -> ChangedKeys | Doubt | None:
        """The keys touched after `since` and up to `to`.

        Doubt wherever one could be missing; None from a source that keeps no record of changes.
        """
