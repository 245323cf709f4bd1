"""An index proved against its table, end to end: compared, looked into, repaired."""

from collections.abc import Mapping
from dataclasses import dataclass

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.inspection import Columns, Fault, Inspection, ReadDocuments, ReadVectors, inspect
from pipelines.reapply import applier
from pipelines.sources.protocol import ChangedKeys, ColumnMapping, Snapshot, TableSource
from pipelines.verify import Drift, DriftReport, compare_newest, repair
from vector_index.passages import SourceVersion
from vector_index.protocol import SyncedIndex
from vector_index.reading import Reading


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found. repaired: what still differs after a repair; None where none was asked for.

    faults: the first of those in `inspection`, which counts them all.
    """

    drift: DriftReport
    documents_read: int
    vectors_compared: int
    least_cosine: float | None
    faulty: int
    faults: tuple[Fault, ...]
    repaired: DriftReport | None

    @property
    def is_equal(self) -> bool:
        """Whether the index now equals the table, as far as was looked."""
        if self.repaired is not None:
            return self.repaired.is_equal
        return self.drift.is_equal and not self.faulty


def prove(
    source: TableSource,
    index: SyncedIndex,
    embedder: Embedder,
    chunk: Chunker,
    *,
    repairs: bool = False,
    sample: int | None = 1000,
    examples: int = 5,
    set_aside: Mapping[str, str] | None = None,
) -> Proof:
    """Compares all keys and hashes, and reads a sample of what lies under them.

    repairs: applies what differs. sample: documents to be read, None for all. set_aside: key to
    row hash of what is in quarantine. Raises IndexBehind where the index is to be synced first,
    PipelineError and VectorIndexError.
    """
    aside = set_aside or {}
    snapshot, drift = compare_newest(
        source.snapshot, index, lambda since, to: _touched(source, since, to), set_aside=aside
    )
    seen = _inspected(snapshot, index, embedder, drift, sample)
    after = None
    if repairs:
        apply = applier(snapshot, index, embedder, chunk, under=drift.indexed)
        after = repair(snapshot, index, drift, apply, faulty=seen.faulty(), set_aside=aside)
    return Proof(
        drift=drift.report(examples=examples),
        documents_read=seen.documents,
        vectors_compared=seen.vectors,
        least_cosine=seen.least_cosine,
        faulty=len(seen.faulty()),
        faults=seen.faults[:examples],
        repaired=None if after is None else after.report(examples=examples),
    )


def _touched(source: TableSource, since: SourceVersion, to: Snapshot) -> frozenset[str] | None:
    touched = source.changed_keys(since, to)
    return touched.keys if isinstance(touched, ChangedKeys) else None


def _inspected(
    snapshot: Snapshot, index: SyncedIndex, embedder: Embedder, drift: Drift, sample: int | None
) -> Inspection:
    mapping = snapshot.mapping
    read: ReadDocuments | None = None
    read_vectors: ReadVectors | None = None
    if isinstance(index, Reading):
        read = index.read
        # Vectors that came with the table are none that the embedder makes.
        read_vectors = None if mapping.vector else index.read_vectors
    return inspect(
        snapshot, index, _columns(mapping), skipped=drift.keys() | drift.waiting,
        sample=sample, embedder=embedder, read=read, read_vectors=read_vectors,
    )  # fmt: skip


def _columns(mapping: ColumnMapping) -> Columns:
    return Columns(
        mapping.key, mapping.title, mapping.text, mapping.tenant, mapping.groups,
        is_plain=mapping.text_format == "plain" and mapping.text_from == "text",
    )  # fmt: skip
