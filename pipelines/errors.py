"""Everything pipelines raises.

PipelineError
├── TableNotFound          no Delta table at that path
├── SourceUnreadable       the table is there and cannot be read: damage, no rights, no network
│   └── TableNotSupported  it uses a feature that our reader does not know
├── SchemaMismatch         a configured column is missing or has a type the index cannot use
├── BadKeys                null or duplicate document keys; the index keeps its old generation
├── BadRow                 a row that cannot be indexed as it is: its encoding, its vector
└── SyncStopped            a sync was told to stop; nothing of it was published
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
