"""Everything pipelines raises.

PipelineError
├── TableNotFound          no Delta table at that path
├── SourceUnreadable       the table is there and cannot be read: damage, no rights, no network
│   └── TableNotSupported  it uses a feature that our reader does not know
├── SchemaMismatch         a configured column is missing or has a type the index cannot use
├── BadKeys                null or duplicate document keys; the index keeps its old generation
├── BadRow                 a row that cannot be indexed as it is: its encoding, its vector
├── SyncStopped            a sync was told to stop; nothing of it was published
├── IndexBehind            index and table cannot be compared at one version
├── IndexDrifted           the index differs from its table where it should not
├── BadCheck               a quality check that cannot be made as it is declared
├── QualityFailed          rows break a check whose `on_fail` is fail
├── EmbedderStuck          the embedder fails or hangs on any text, not on one of them
└── QuarantineFailed       the table of quarantined rows cannot be read or written
"""


class PipelineError(Exception):
    """Base of every error this room raises."""


class TableNotFound(PipelineError):
    """There is no readable Delta table at the path."""


class SourceUnreadable(PipelineError):
    """The table cannot be read as it is now; the index keeps its old generation."""


class TableNotSupported(SourceUnreadable):
    """The table asks its readers for a feature that ours does not have."""


class SchemaMismatch(PipelineError):
    """The table lacks a column the index needs, or the column has another type."""


class BadKeys(PipelineError):
    """A document key is null or stands twice, so rows cannot be told apart."""


class BadRow(PipelineError):
    """A row's text or vector is not one; the message names the document."""


class SyncStopped(PipelineError):
    """Told to stop before it published; the next sync begins anew."""


class IndexBehind(PipelineError):
    """Index and table are of two versions, and what lies between them is not known."""


class IndexDrifted(PipelineError):
    """The index differs from its table, at the version it says it has."""


class BadCheck(PipelineError):
    """A declared quality check names an unknown column or check, or lacks what it needs."""


class QualityFailed(PipelineError):
    """Rows break a check that is to stop the sync; the index keeps its old generation."""


class EmbedderStuck(PipelineError):
    """The embedder fails or hangs on a text that is known to be harmless."""


class QuarantineFailed(PipelineError):
    """The Delta table of quarantined rows cannot be read or written."""
