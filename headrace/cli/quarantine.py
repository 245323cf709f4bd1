"""`headrace index quarantine|retry`."""

import json as json_module
from dataclasses import asdict

from headrace import assembly, indexes
from headrace.quarantines import quarantine_of
from headrace.settings import load_settings
from headrace.syncing import setting_aside
from pipelines.errors import IndexBehind
from pipelines.reapply import applier
from pipelines.reasons import Reason
from pipelines.retry import Retried, retry


def run_quarantine(name: str, limit: int, as_json: bool) -> None:
    """Prints a line a row, or a JSON array with what is kept of the rows."""
    found = quarantine_of(load_settings(), name).open(limit=limit)
    if as_json:
        print(json_module.dumps([asdict(row) for row in found], default=str))
        return
    for row in found:
        print(f"{row.key}  {row.reason}  tried {row.attempts} times, "
              f"table version {row.table_version}: {row.detail}")  # fmt: skip


def run_retry(name: str, every: bool, as_json: bool) -> None:
    """Tries rows again, and prints what came of it."""
    settings = load_settings()
    quarantine = quarantine_of(settings, name)
    reasons = list(Reason) if every else None
    if not quarantine.due(reasons=reasons):
        _print(name, Retried((), (), ()), as_json)
        return
    embedder = assembly.build_embedder(settings, indexes.index_section(settings, name).embedder)
    index = indexes.open_index(settings, name, embedder)
    snapshot = indexes.build_source(settings, name).snapshot()
    at = index.version().source
    if at != snapshot.version:
        raise IndexBehind(
            f"index {name!r} is at table version {at.version}, the table at "
            f"{snapshot.version.version}; `headrace index sync {name}` comes first"
        )
    chunk = indexes.build_chunker(settings, name, embedder)
    aside = setting_aside(settings, name, frozenset(quarantine.due(reasons=reasons)))
    apply = applier(snapshot, index, embedder, chunk, under=at, aside=aside)
    found = retry(quarantine, snapshot.hashes(), index.documents, apply, reasons=reasons)
    _print(name, found, as_json)


def _print(name: str, found: Retried, as_json: bool) -> None:
    if as_json:
        print(json_module.dumps(asdict(found)))
        return
    print(f"{name}: {len(found.indexed)} rows indexed, {len(found.gone)} gone from the table, "
          f"{len(found.failed)} failed again")  # fmt: skip
