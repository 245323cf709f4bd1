"""What the browsing half of an index gives back: pages of documents."""

from dataclasses import dataclass

from vector_index.passages import Passage


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it is indexed, its passages in their order."""

    document_id: str
    document_hash: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Documents in the order of their ids. next: where to go on `after`; None at the end."""

    documents: tuple[StoredDocument, ...]
    next: str | None
