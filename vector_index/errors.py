"""Everything vector_index raises.

VectorIndexError
├── InvalidQuery          k, vector or filter the index cannot answer (the caller's mistake)
│   └── InvalidFilter     an unknown column, operator or value type in a filter
├── InvalidDelta          passages, vectors or documents that do not fit together
├── TooFewRows            a segment too small to train the kind that was asked for
├── IndexNotFound         no such index
│   ├── NeverPublished    nothing has been published under that name yet
│   └── GenerationNotFound  no kept generation has that name or number
├── IndexExists           there is an index where a new one should be created
├── IndexBusy             another process holds the writer's lock
│   └── IndexMoved        the index is not, or no longer, what the change was made for
├── IndexFull             a change is larger than all that may wait in memory
├── IndexCorrupt          a file's checksum or shape differs from its manifest
├── WriteFailed           the disk refused a write; the index is what it was before
│   └── FullTextFailed    the full text of a generation could not be written
├── WriterClosed          the writer was closed, or can no longer trust its log
├── StoreFailed           the server that keeps the index refused a call or did not answer
├── StoreMissing          the package that speaks to that server is not installed
├── EmbedderMismatch      the index was built by another embedder or dimension
├── SettingsMismatch      the index was built with another kind, chunking or set of columns
├── GpuUnavailable        a GPU was asked for and none can be used
└── DeviceFailed          a card refused a copy or a search; the segment on the CPU can answer
    └── DeviceFull        a copy would exceed the memory budget of the card
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


class GenerationNotFound(IndexNotFound):
    """The generation is not, or no longer, among the kept ones."""


class IndexExists(VectorIndexError):
    """The index already has a generation."""


class IndexBusy(VectorIndexError):
    """Another process is writing to this index."""


class IndexMoved(IndexBusy):
    """Somebody else published since the change was computed; compute it anew."""


class IndexFull(VectorIndexError):
    """One change holds more rows or bytes than may wait in memory."""


class IndexCorrupt(VectorIndexError):
    """A generation on disk is not what its manifest says."""


class WriteFailed(VectorIndexError):
    """The disk refused a write, say because it is full; nothing of it became visible."""


class FullTextFailed(WriteFailed):
    """The full text could not be written: no space, no rights, or a damaged parent."""


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


class GpuUnavailable(VectorIndexError):
    """There is no such card, or no FAISS that can use it."""


class DeviceFailed(VectorIndexError):
    """A card could not make a copy or answer a search."""


class DeviceFull(DeviceFailed):
    """The memory that a card may use for copies is taken."""
