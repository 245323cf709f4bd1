"""Rows in quarantine, tried again without waiting for the table to change."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pipelines.quarantine import Quarantine
from pipelines.reasons import Reason
from pipelines.verify import Apply


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of it; keys are sorted. gone: no rows of the table any more; failed: still set
    aside."""

    indexed: tuple[str, ...]
    gone: tuple[str, ...]
    failed: tuple[str, ...]


def retry(
    quarantine: Quarantine,
    rows: Mapping[str, str],
    documents: Callable[[], Mapping[str, str]],
    apply: Apply,
    *,
    reasons: Collection[Reason] | None = None,
    max_attempts: int | None = None,
) -> Retried:
    """Applies the rows that are due, and closes those that the index then holds.

    rows: key to content hash of the snapshot that `apply` reads. documents: the same of the
    index, asked for afterwards: a row is closed because it is indexed, not because nothing was
    raised. apply: sets aside again what fails again. reasons, max_attempts: as `Quarantine.due`.
    Raises QuarantineFailed, and what `apply` raises.
    """
    due = quarantine.due(reasons=reasons, max_attempts=max_attempts)
    present = [key for key in due if key in rows]
    if present:
        apply(frozenset(present), frozenset())
    found = documents() if present else {}
    indexed = [key for key in present if found.get(key) == rows[key]]
    gone = [key for key in due if key not in rows]
    quarantine.resolve([*indexed, *gone])
    failed = [key for key in present if found.get(key) != rows[key]]
    return Retried(tuple(indexed), tuple(gone), tuple(failed))
