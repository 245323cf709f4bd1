"""A look into a sample of an index: passages, text, access and vectors against the table's rows.

A content hash says which row a document was made of; whether the passages stored under it are
those of that row is seen only by reading both.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_endpoint.embedding.protocol import Embedder
from vector_index.found import Page, StoredDocument
from vector_index.passages import Access, Passage

# Half precision on a card may differ in the fourth digit with what else is in a batch; the int8
# model on a CPU was measured to differ by 2e-7.
_LEAST_COSINE = 0.999

ReadVectors = Callable[[Sequence[str]], Mapping[str, NDArray[np.float32]]]
"""The stored vectors of those of these documents that are indexed: (passages, dim), by id."""

ReadDocuments = Callable[[Sequence[str]], Mapping[str, StoredDocument]]
"""Those of these documents that are indexed, by id."""


class RowSnapshot(Protocol):
    """What of a pinned snapshot is read."""

    def rows(self, keys: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        """The mapped columns of the rows with these keys, in bounded batches."""


class ScannedIndex(Protocol):
    """What of an index is read."""

    def documents(self) -> Mapping[str, str]:
        """Document id to content hash of everything indexed."""

    def scan(self, *, after: str | None, limit: int, access: Access | None) -> Page:
        """The next documents by id, with their passages."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are held against the index; None where the index has no such thing.

    is_plain: whether `text` is indexed as it stands; text that is converted first, out of HTML
    say, cannot be held against its passages.
    """

    key: str
    title: str
    text: str
    tenant: str | None = None
    groups: str | None = None
    is_plain: bool = True


@dataclass(frozen=True, slots=True)
class Fault:
    """A document that is not what its row says, and how it shows."""

    key: str
    problem: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a sample came to. vectors: how many stored ones were held against fresh ones.

    least_cosine: the lowest cosine of a stored vector and a fresh one; None where none was.
    """

    documents: int
    passages: int
    vectors: int
    least_cosine: float | None
    faults: tuple[Fault, ...]

    def faulty(self) -> frozenset[str]:
        """The keys to be re-applied."""
        return frozenset(fault.key for fault in self.faults)


@dataclass(slots=True)
class _Work:
    documents: int = 0
    passages: int = 0
    faults: list[Fault] = field(default_factory=list)
    to_embed: list[StoredDocument] = field(default_factory=list)


def inspect(
    snapshot: RowSnapshot,
    index: ScannedIndex,
    columns: Columns,
    *,
    skipped: Collection[str] = (),
    sample: int | None = 1000,
    seed: int = 0,
    embedder: Embedder | None = None,
    embedded: int = 64,
    read: ReadDocuments | None = None,
    read_vectors: ReadVectors | None = None,
) -> Inspection:
    """Reads a sample of the indexed documents, and the rows they were made of.

    skipped: keys that are known to differ, or pending. sample: how many documents, None for all,
    which holds no more in memory. embedder, read_vectors: given both, the stored vectors of up to
    `embedded` of these documents are compared with fresh ones. read: reads documents by id faster
    than `scan` does, a page of one at a time.
    """
    documents = index.documents()
    read = read or _by_scan(index, sorted(documents))
    random = np.random.default_rng(seed)
    chosen = _sample(sorted(documents.keys() - set(skipped)), sample, random)
    for_vectors = set() if embedder is None else set(_sample(chosen, embedded, random))
    work = _Work()
    for batch in snapshot.rows(chosen) if chosen else ():
        found = read(batch.column(columns.key).to_pylist())
        for row in batch.to_pylist():
            key = row[columns.key]
            document = found.get(key, StoredDocument(key, "", ()))
            work.documents += 1
            work.passages += len(document.passages)
            problems = _problems(document, row, columns, documents[key])
            work.faults += [Fault(key, problem) for problem in problems]
            if key in for_vectors:
                work.to_embed.append(document)
    cosines: list[float] = []
    if embedder is not None and read_vectors is not None:
        for document in work.to_embed:
            cosines += _cosines(document, embedder, read_vectors, work.faults)
    return Inspection(
        work.documents,
        work.passages,
        vectors=len(cosines),
        least_cosine=min(cosines, default=None),
        faults=tuple(work.faults),
    )


def _sample(keys: Sequence[str], size: int | None, random: np.random.Generator) -> Sequence[str]:
    if size is None or size >= len(keys):
        return keys
    places = np.sort(random.choice(len(keys), size, replace=False))
    return [keys[place] for place in places.tolist()]


def _by_scan(index: ScannedIndex, order: Sequence[str]) -> ReadDocuments:
    def read(keys: Sequence[str]) -> Mapping[str, StoredDocument]:
        found = {}
        for key in keys:
            place = bisect_left(order, key)
            page = index.scan(after=order[place - 1] if place else None, limit=1, access=None)
            found.update({document.document_id: document for document in page.documents})
        return found

    return read


def _problems(
    document: StoredDocument, row: Mapping[str, object], columns: Columns, listed: str
) -> Iterator[str]:
    if document.document_hash != listed:
        yield f"its content hash reads {document.document_hash!r}, listed is {listed!r}"
    title, tenant = str(row[columns.title] or ""), columns.tenant and row[columns.tenant]
    groups = row[columns.groups] if columns.groups else None
    wanted = tuple(groups) if isinstance(groups, list) else None
    for place, passage in enumerate(document.passages):
        name = f"passage {place}"
        if (passage.document_id, passage.ordinal) != (document.document_id, place):
            yield f"{name} is passage {passage.ordinal} of {passage.document_id!r}"
        if passage.text_hash != _text_hash(passage.text):
            yield f"{name} has not the hash of its text"
        if passage.title != title:
            yield f"{name} has another title than its row"
        if (passage.tenant, passage.allowed_groups) != (tenant, wanted):
            yield f"{name} may be seen by others than its row"
    if columns.is_plain:
        yield from _text_problems(document.passages, str(row[columns.text] or ""))


def _text_problems(passages: Sequence[Passage], text: str) -> Iterator[str]:
    """Passages are cut out of the text, and leave nothing of it out but white space."""
    end = 0
    for place, passage in enumerate(passages):
        if text[passage.start : passage.end] != passage.text:
            yield f"passage {place} is not what its row says there"
        if text[end : passage.start].strip():
            yield f"what its row says before passage {place} is in no passage"
        end = max(end, passage.end)
    if text[end:].strip():
        yield "the end of its row's text is in no passage" if passages else "it has no passages"


def _cosines(
    document: StoredDocument, embedder: Embedder, read_vectors: ReadVectors, faults: list[Fault]
) -> list[float]:
    """Of each passage's stored and fresh vector; those that are too far apart are faults."""
    key, passages = document.document_id, document.passages
    found = read_vectors([key]).get(key, np.empty((0, embedder.info.dim), np.float32))
    if len(found) != len(passages):
        faults.append(Fault(key, f"it has {len(passages)} passages and {len(found)} vectors"))
        return []
    if not passages:
        return []
    fresh = embedder.embed_passages([passage.text for passage in passages])
    cosines = [float(cosine) for cosine in np.einsum("ij,ij->i", found, fresh)]
    faults += [
        Fault(key, f"passage {place}: its stored vector has a cosine of {cosine:.4f} with a fresh "
              f"one")
        for place, cosine in enumerate(cosines)
        if not cosine >= _LEAST_COSINE
    ]  # fmt: skip
    return cosines


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
