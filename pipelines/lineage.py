"""What a sync read and what it made of it, as OpenLineage run events.

    START   table (version, schema)
    COMPLETE  table --> index generation (embedder, chunking, rows)      or FAIL, with the error

Marquez, DataHub and OpenMetadata read them. The events are those of `openlineage-python` (a small
wheel, kept in step with the specification, all of whose dependencies are here anyway): facets by
hand would have to be held against a schema that changes. How they travel is `lineage_sender`'s.
"""

import logging
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa

from pipelines.embedding_drift import DriftGauges
from vector_index.manifest import IndexSettings
from vector_index.passages import IndexVersion, SourceVersion

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent
    from openlineage.client.facet_v2 import DatasetFacet, RunFacet

_log = logging.getLogger(__name__)

_PRODUCER = "urn:headrace"
_LOCAL = "file"


class Sender(Protocol):
    """Where events go."""

    def send(self, event: "RunEvent") -> None:
        """Takes the event. Neither waits for its delivery nor raises."""


@dataclass(frozen=True, slots=True)
class TableRead:
    """The table of a run. uri: a local path or a URL; rows: how many were read, where known."""

    uri: str
    version: SourceVersion
    schema: pa.Schema
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class IndexMade:
    """The generation that a run published, or found up to date. written: documents of this run.

    drift: of the vectors written, None where there were none.
    """

    uri: str
    version: IndexVersion
    settings: IndexSettings
    documents: int
    passages: int
    written: int
    removed: int
    drift: DriftGauges | None = None


@dataclass(slots=True)
class SyncRun:
    """One sync of one index, told to a sender: `start`, then `complete` or `fail`; none raises.

    namespace: of the job, as the lineage server is to list it.
    """

    index: str
    sender: Sender
    namespace: str = "headrace"
    _run_id: str = field(default_factory=lambda: str(uuid4()), init=False)
    _read: TableRead | None = field(default=None, init=False)

    def start(self, read: TableRead | None = None) -> None:
        """The run has begun; `read` where the table is known by then."""
        self._read = read
        self._send("START")

    def complete(self, read: TableRead, made: IndexMade) -> None:
        """The index has been published, or was up to date."""
        self._read = read
        self._send("COMPLETE", made=made)

    def fail(self, error: BaseException) -> None:
        """The run has ended without a generation."""
        self._send("FAIL", error=error)

    def _send(
        self, state: str, *, made: IndexMade | None = None, error: BaseException | None = None
    ) -> None:
        try:
            self.sender.send(self._event(state, made, error))
        except Exception as exc:  # noqa: BLE001 - the sync goes on, whatever an event lacks
            _log.warning("lineage_event_not_made state=%s reason=%s", state, exc)

    def _event(self, state: str, made: IndexMade | None, error: BaseException | None) -> "RunEvent":
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
        from openlineage.client.facet_v2 import job_type_job

        kind = job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="HEADRACE", jobType="SYNC", producer=_PRODUCER
        )
        return RunEvent(
            eventType=RunState[state],
            eventTime=datetime.now(UTC).isoformat(),
            run=Run(self._run_id, facets=_run_facets(error)),
            job=Job(self.namespace, f"sync.{self.index}", facets={"jobType": kind}),
            inputs=[_input(self._read)] if self._read else [],
            outputs=[_output(made)] if made else [],
            producer=_PRODUCER,
        )


def dataset_name(uri: str) -> tuple[str, str]:
    """Namespace and name of a table, as the specification names files and objects.

    `s3://bucket/a/b` is (`s3://bucket`, `a/b`), a local path (`file`, the absolute path). What a
    URL has of user, password and query is left out.
    """
    parts = urlsplit(uri)
    if not parts.scheme or parts.scheme == "file":
        return _LOCAL, parts.path
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}", parts.path.strip("/") or "/"


def _run_facets(error: BaseException | None) -> "dict[str, RunFacet]":
    from openlineage.client.facet_v2 import error_message_run

    if error is None:
        return {}
    # No stack: it may quote a row.
    message = f"{type(error).__name__}: {error}"
    return {"errorMessage": error_message_run.ErrorMessageRunFacet(
        message=message, programmingLanguage="PYTHON", producer=_PRODUCER)}  # fmt: skip


def _input(read: TableRead) -> "InputDataset":
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import (
        dataset_version_dataset,
        input_statistics_input_dataset,
        schema_dataset,
    )

    fields = [
        schema_dataset.SchemaDatasetFacetFields(name=one.name, type=str(one.type))
        for one in read.schema
    ]
    version = dataset_version_dataset.DatasetVersionDatasetFacet(
        datasetVersion=str(read.version.version), producer=_PRODUCER
    )
    counted = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
        rowCount=read.rows, producer=_PRODUCER
    )
    return InputDataset(
        *dataset_name(read.uri),
        facets={
            "schema": schema_dataset.SchemaDatasetFacet(fields=fields, producer=_PRODUCER),
            "version": version,
            "headrace_table": _facet(
                tableId=read.version.table_id,
                schemaFingerprint=read.version.schema_fingerprint,
                committedAt=read.version.committed_at.isoformat(),
            ),
        },
        inputFacets={} if read.rows is None else {"inputStatistics": counted},
    )


def _output(made: IndexMade) -> "OutputDataset":
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import (
        dataset_version_dataset,
        output_statistics_output_dataset,
    )

    embedder = made.settings.embedder
    written = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=made.written, producer=_PRODUCER
    )
    return OutputDataset(
        *dataset_name(made.uri),
        facets={
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(
                datasetVersion=made.version.generation, producer=_PRODUCER
            ),
            "headrace_embedder": _facet(
                id=embedder.id, weightsSha256=embedder.weights_sha256, dim=embedder.dim
            ),
            "headrace_chunker": _facet(**dict(made.settings.chunking)),
            "headrace_index": _facet(
                documents=made.documents, passages=made.passages, removed=made.removed
            ),
            **_drift_facet(made.drift),
        },
        outputFacets={"outputStatistics": written},
    )


def _drift_facet(drift: DriftGauges | None) -> "dict[str, DatasetFacet]":
    if drift is None:
        return {}
    found = {
        "meanCosine": drift.mean_cosine,
        "spread": drift.spread,
        "indexSpread": drift.index_spread,
        "nearZeroShare": drift.near_zero_share,
    }
    # JSON has no NaN.
    numbers = {name: value for name, value in found.items() if not math.isnan(value)}
    return {"headrace_drift": _facet(vectors=drift.vectors, **numbers)}


def _facet(**values: object) -> "DatasetFacet":
    """A facet of our own: its name begins with ours, as the specification asks."""
    from openlineage.client.facet_v2 import DatasetFacet

    made = DatasetFacet(producer=_PRODUCER).with_additional_properties(**values)
    assert isinstance(made, DatasetFacet)
    return made
