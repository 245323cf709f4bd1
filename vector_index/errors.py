"""Everything vector_index raises.

VectorIndexError
├── InvalidQuery          k, vector or filter the index cannot answer (the caller's mistake)
│   └── InvalidFilter     an unknown column, operator or value type in a filter
├── InvalidDelta          passages, vectors or documents that do not fit together
├── TooFewRows            a segment too small to train the kind that was asked for
├── IndexNotFound         no such index or kept generation
│   └── NeverPublished    nothing has been published under that name yet
├── IndexBusy             another process holds the writer's lock
├── IndexCorrupt          a file's checksum or shape differs from its manifest
├── WriterClosed          the writer was closed, or can no longer trust its log
├── StoreFailed           the server that keeps the index refused a call or did not answer
├── StoreMissing          the package that speaks to that server is not installed
├── EmbedderMismatch      the index was built by another embedder or dimension
├── SettingsMismatch      the index was built with another kind, chunking or set of columns
└── FullTextFailed        the full text of a generation could not be written
"""


class VectorIndexError(Exception):
    """Base of every error this room raises."""


class InvalidQuery(VectorIndexError):
    """The search request cannot be answered as asked; `field` names the part that is wrong."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class InvalidFilter(InvalidQuery):
    """The filter names a column, operator or value that the index does not have."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="filter")


class InvalidDelta(VectorIndexError):
    """The change handed to publish is inconsistent; nothing was written."""


class TooFewRows(VectorIndexError):
    """An index kind that is trained was asked to be built from too few vectors."""


class IndexNotFound(VectorIndexError):
    """The index has no published generation."""


class NeverPublished(IndexNotFound):
    """The index is declared, and waits for its first sync."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"index {name!r} has not been published yet; run `headrace index sync {name}`"
        )


class IndexBusy(VectorIndexError):
    """Another process is publishing to this index."""


class IndexCorrupt(VectorIndexError):
    """A generation on disk is not what its manifest says."""


class WriterClosed(VectorIndexError):
    """The writer takes no more changes: open another one."""


class StoreFailed(VectorIndexError):
    """A call to the server that keeps the index failed; what it would have changed is unknown."""


class StoreMissing(VectorIndexError):
    """The package of an extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package} is not installed; it comes with the extra [{extra}]: run "
            f"`pip install 'headrace[{extra}]'` in the server's environment"
        )
        self.package = package
        self.extra = extra


class EmbedderMismatch(VectorIndexError):
    """Vectors of two embedders would be mixed in one space."""


class SettingsMismatch(VectorIndexError):
    """Segments built in two ways would be mixed in one index."""


class FullTextFailed(VectorIndexError):
    """The full text could not be written: no space, no rights, or a damaged parent."""
