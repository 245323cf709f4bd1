"""Everything pipelines raises.

PipelineError
├── TableNotFound      no Delta table at that path
├── SchemaMismatch     a configured column is missing or has a type the index cannot use
└── BadKeys            null or duplicate document keys; the index keeps its old generation
"""


class PipelineError(Exception):
    """Base of every error this room raises."""


class TableNotFound(PipelineError):
    """There is no readable Delta table at the path."""


class SchemaMismatch(PipelineError):
    """The table lacks a column the index needs, or the column has another type."""


class BadKeys(PipelineError):
    """A document key is null or stands twice, so rows cannot be told apart."""
