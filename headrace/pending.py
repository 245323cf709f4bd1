"""How many rows an index has yet to take in, as far as its table can tell without a comparison."""

from pipelines.sources import ChangedKeys, TableSource
from vector_index.passages import Lag, SourceVersion


def pending_rows(source: TableSource, indexed: SourceVersion, lag: Lag) -> int | None:
    """Rows touched since `indexed`, deleted ones too; None where the table keeps no such record.

    Costs the reading of the feed where the index is behind, nothing where it is not. Raises
    PipelineError.
    """
    if lag.versions == 0:
        return 0
    found = source.changed_keys(indexed, source.snapshot())
    return len(found.keys) if isinstance(found, ChangedKeys) else None
