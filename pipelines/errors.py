"""Everything pipelines raises.

PipelineError
├── TableNotFound          no table at that path
├── SourceUnreadable       the table is there and cannot be read: damage, no rights, no network
│   ├── FileUnreadable     a file is no complete Parquet file: being written, cut off, damaged
│   ├── SourceChanged      files changed while they were read; the next sync reads them anew
│   └── TableNotSupported  it uses a feature that our reader does not know
├── SchemaMismatch         a configured column is missing or has a type the index cannot use
├── BadKeys                null or duplicate document keys; the index keeps its old generation
├── BadRow                 a row that cannot be indexed as it is: its encoding, its vector
├── BadDocument            a document that was handed over cannot be indexed as it is
├── BadQuery               the SQL of a source is not one SELECT, or fails
│   └── UntrackableQuery   its answer could change while its tables do not
├── BadVectors             a precomputed vector is missing, of another dimension or not finite
├── SyncStopped            a sync was told to stop; nothing of it was published
├── MissingExtra           a part that is installed separately is not installed
├── DocumentUnreadable     a document could not be parsed: damaged, or it broke the parser
│   ├── DocumentTooSlow    parsing it took longer than is allowed
│   └── PathRefused        its path leads out of the folder, or to no file
├── IndexBehind            index and table cannot be compared at one version
├── IndexDrifted           the index differs from its table where it should not
├── BadCheck               a quality check that cannot be made as it is declared
├── QualityFailed          rows break a check whose `on_fail` is fail
├── EngineFailed           where rows are cut and embedded broke down: a Ray cluster, its workers
├── EmbedderStuck          the embedder fails or hangs on any text, not on one of them
├── BadPrompt              a prompt of a batch is no template over the table's columns
├── BatchRefused           a batch cannot write where it is told to: other results are there
└── QuarantineFailed       the table of quarantined rows cannot be read or written
"""


class PipelineError(Exception):
    """Base of every error this room raises."""


class TableNotFound(PipelineError):
    """There is no readable table at the path."""


class SourceUnreadable(PipelineError):
    """The table cannot be read as it is now; the index keeps its old generation."""


class FileUnreadable(SourceUnreadable):
    """A file of the table is no complete Parquet file."""


class SourceChanged(SourceUnreadable):
    """Files were written, replaced or removed while they were read, so no state was seen whole."""


class TableNotSupported(SourceUnreadable):
    """The table asks its readers for a feature that ours does not have."""


class SchemaMismatch(PipelineError):
    """The table lacks a column the index needs, or the column has another type."""


class BadKeys(PipelineError):
    """A document key is null or stands twice, so rows cannot be told apart."""


class BadRow(PipelineError):
    """A row's text or vector is not one; the message names the document."""


class BadDocument(PipelineError):
    """A document that was handed over cannot be taken; `field` is the part of it at fault."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class BadQuery(PipelineError):
    """The SQL of a source is not one SELECT, or DuckDB cannot run it."""


class UntrackableQuery(BadQuery):
    """The query's answer could change while its tables do not, and no sync would notice."""


class BadVectors(PipelineError):
    """Vectors of some rows cannot be indexed. `rows` are their numbers in the batch, from 0."""

    def __init__(self, message: str, rows: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.rows = rows


class SyncStopped(PipelineError):
    """Told to stop before it published; the next sync begins anew."""


class MissingExtra(PipelineError):
    """A package that an optional feature needs is not installed."""


class DocumentUnreadable(PipelineError):
    """One document could not be turned into text; the others are not affected."""


class DocumentTooSlow(DocumentUnreadable):
    """Parsing a document took longer than is allowed, and was ended."""


class PathRefused(DocumentUnreadable):
    """A document's path leads out of the folder that it has to be below, or to no file."""


class IndexBehind(PipelineError):
    """Index and table are of two versions, and what lies between them is not known."""


class IndexDrifted(PipelineError):
    """The index differs from its table, at the version it says it has."""


class BadCheck(PipelineError):
    """A declared quality check names an unknown column or check, or lacks what it needs."""


class QualityFailed(PipelineError):
    """Rows break a check that is to stop the sync; the index keeps its old generation."""


class EngineFailed(PipelineError):
    """Rows that were to be cut and embedded elsewhere did not come back; nothing was published."""


class EmbedderStuck(PipelineError):
    """The embedder fails or hangs on a text that is known to be harmless."""


class QuarantineFailed(PipelineError):
    """The Delta table of quarantined rows cannot be read or written."""


class BadPrompt(PipelineError):
    """The text is not a template, or names a column that the table does not have."""


class BatchRefused(PipelineError):
    """The folder for results holds something else, or another run is writing to it."""
