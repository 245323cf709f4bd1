"""What is known of an index by any process: `headrace index status`."""

import dataclasses

from headrace import indexes
from headrace.drift_records import last_drift
from headrace.pending import pending_rows
from headrace.settings import Settings
from headrace.watching import LastWord, last_word
from pipelines.errors import PipelineError
from vector_index.passages import IndexVersion


def status_form(settings: Settings, name: str) -> dict[str, object]:
    """The index's version, lag, pending rows, last error, throughput and drift, as JSON has them.

    Where the table cannot be read, `table_problem` says why and the lag is null; an index without
    a table has no such fields. Raises IndexNotFound before the first publish.
    """
    version, documents, passages = indexes.published_state(settings, name)
    if name in settings.direct_indexes:
        return {
            "index": name,
            "generation": version.generation,
            "created_at": version.created_at.isoformat(),
            "documents": documents,
            "passages": passages,
        }
    said, drift = last_word(settings, name), last_drift(settings, name)
    return {
        "index": name,
        "generation": version.generation,
        "table_version": version.source.version,
        **_distance(settings, name, version, said),
        "created_at": version.created_at.isoformat(),
        "documents": documents,
        "passages": passages,
        "sync": settings.table_indexes[name].sync,
        "watcher": None if said is None else dataclasses.asdict(said),
        "drift": None if drift is None else dataclasses.asdict(drift),
    }


def _distance(
    settings: Settings, name: str, version: IndexVersion, said: LastWord | None
) -> dict[str, object]:
    try:
        source = indexes.build_source(settings, name)
        lag = source.lag(version.source)
        pending = None if said is None else said.pending_rows
        # A sync under way knows better than the feed how much of it is still to do.
        if not pending:
            pending = pending_rows(source, version.source, lag)
    except PipelineError as exc:
        return {
            "lag_versions": None,
            "lag_s": None,
            "pending_rows": None,
            "table_problem": str(exc),
        }
    return {
        "lag_versions": lag.versions,
        "lag_s": round(lag.seconds, 1),
        "pending_rows": pending,
        "table_problem": None,
    }
