"""Sync: make the index equal to the table, embedding only what changed."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from llm_endpoint.embedding.protocol import Embedder
from pipelines.changes import Changes, Mode, find_changes
from pipelines.chunking import Chunker
from pipelines.embedding_drift import Moments
from pipelines.engines import Engine, Known, LocalEngine
from pipelines.errors import SchemaMismatch
from pipelines.parts import PART_PASSAGES, Progress, Work
from pipelines.setting_aside import SettingAside
from pipelines.sources.protocol import TableSource
from vector_index import building
from vector_index.errors import NeverPublished
from vector_index.generation import published
from vector_index.held import joined
from vector_index.local import LocalIndex
from vector_index.lock import SyncLock
from vector_index.manifest import IndexSettings
from vector_index.passages import Base, IndexDelta, IndexVersion, empty_delta
from vector_index.protocol import Staging, SyncedIndex

# More documents than this are staged on the disk part by part.
LARGE_DOCUMENTS = 20_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. `embedded` counts texts sent to the embedder, not rows.

    quarantined: rows set aside by this sync; warnings: of quality checks, one a sentence.
    mode: nothing to do; only the touched keys looked at; all rows compared; built anew. reason:
    why that mode. duration_s: from the first look to the published generation. moments: of the
    vectors written, for `embedding_drift.gauges`; None where there are none.
    """

    version: IndexVersion
    changed: int
    removed: int
    passages: int
    embedded: int
    mode: Mode
    reason: str
    duration_s: float
    quarantined: int = 0
    warnings: tuple[str, ...] = ()
    moments: Moments | None = None

    @property
    def is_noop(self) -> bool:
        """Whether nothing was published."""
        return self.mode == "noop"


def sync(
    source: TableSource,
    index: SyncedIndex,
    embedder: Embedder,
    chunk: Chunker,
    *,
    engine: Engine | None = None,
    aside: SettingAside | None = None,
    on_progress: Progress | None = None,
) -> SyncReport:
    """Publishes one generation that equals the table's newest version.

    Costs in proportion to the change where the source vouches for the keys that were touched
    since; otherwise all rows are compared by content hash, so the result is right whatever
    happened to the table. Only text that is new to the index is embedded. aside: takes rows
    that cannot be indexed, while the rest of the commit is; without it one such row ends the
    sync, as it does when they cannot be kept. engine: cuts and embeds elsewhere, with the same
    embedder and chunker. Raises PipelineError or VectorIndexError (IndexBusy
    where another sync is under way, or published meanwhile), and then the old generation still
    serves.
    """
    began = time.monotonic()
    with index.lease():
        base = _live(index)
        if base is not None and base.source == source.version():
            reason = "the index is at the table's newest version"
            return SyncReport(base, 0, 0, 0, 0, "noop", reason, time.monotonic() - began)
        snapshot = source.snapshot()
        _check_metadata(source, index)
        held = frozenset[str]() if aside is None else aside.begin()
        changes = find_changes(source, index, base, snapshot, set_aside=held)
        gone = changes.removed | changes.released
        if aside is not None:
            hashes, known = aside.wanted(changes.hashes)
            changes = replace(changes, hashes=hashes, removed=changes.removed | known)
        work = Work(
            snapshot, changes.hashes, index.metadata_columns,
            engine or LocalEngine(embedder, chunk), embedder.info.dim,
            known=None if base is None else _stored(index),
            rows=changes.rows,
            aside=aside,
            on_progress=on_progress,
        )  # fmt: skip
        if len(changes.hashes) > LARGE_DOCUMENTS:
            staging = index.staging(changes.hashes)
            version = _publish_in_parts(staging, work, changes, base)
        else:
            whole = _whole(work)
            delta = replace(whole, removed=set_aside(work, changes.removed))
            version = index.publish(delta, snapshot.version, base=base)
        if aside is not None:
            aside.after_publish(changes.hashes.keys() - aside.rejected, gone)
    return _report(version, changes, work, began)


def rebuild(
    source: TableSource,
    home: Path,
    settings: IndexSettings,
    embedder: Embedder,
    chunk: Chunker,
    *,
    engine: Engine | None = None,
    aside: SettingAside | None = None,
    on_progress: Progress | None = None,
) -> SyncReport:
    """Builds the table's index anew under `settings` beside the live one, then switches to it.

    The live generation serves until the new one is complete, and is kept for a rollback. Stored
    vectors are used again only where the same embedder made them of the same text. aside, which
    is given every row anew, on_progress and errors as `sync`; IndexNotFound where nothing has
    been published.
    """
    began = time.monotonic()
    with SyncLock(home, settings.name):
        snapshot = source.snapshot()
        changes = Changes(snapshot.hashes(), frozenset(), "rebuild", "asked for")
        work = Work(
            snapshot, changes.hashes, settings.metadata_columns,
            engine or LocalEngine(embedder, chunk), embedder.info.dim,
            known=_stored_in(home, settings), aside=aside, on_progress=on_progress,
        )  # fmt: skip
        held = frozenset[str]() if aside is None else aside.begin()
        staging = building.staging(home, settings, changes.hashes)
        version = _publish_in_parts(staging, work, changes, "any")
        if aside is not None:
            aside.after_publish(
                changes.hashes.keys() - aside.rejected, held - changes.hashes.keys()
            )
    return _report(version, changes, work, began)


def _check_metadata(source: TableSource, index: SyncedIndex) -> None:
    """An index that was opened long ago may have been overtaken by its table."""
    built, now = dict(index.metadata_columns), source.metadata_types()
    if built != now:
        raise SchemaMismatch(
            f"the index has the metadata columns {built}, and the table now has {now}; "
            f"run `headrace index rebuild`"
        )


def _live(index: SyncedIndex) -> IndexVersion | None:
    try:
        return index.version()
    except NeverPublished:
        return None


def _publish_in_parts(staging: Staging, work: Work, changes: Changes, base: Base) -> IndexVersion:
    """As one publish, in the memory of one part; what a killed attempt had done is kept."""
    work.skip(staging.kept())
    for part in work.parts(passages=PART_PASSAGES):
        staging.add(part)
    return staging.publish(set_aside(work, changes.removed), work.snapshot.version, base=base)


def set_aside(work: Work, removed: frozenset[str]) -> frozenset[str]:
    """What is to leave the index. Rows that are not to enter it are in quarantine from here on."""
    if work.aside is None:
        return removed
    work.aside.before_publish(work.hashes, work.snapshot.version)
    return removed | work.aside.rejected


def _whole(work: Work) -> IndexDelta:
    nothing = empty_delta(work.metadata, work.dim)
    return joined([nothing, *work.parts()])


def _stored(index: SyncedIndex) -> Known:
    return lambda texts, among: index.vectors_of(texts, among=among)


def _stored_in(home: Path, settings: IndexSettings) -> Known | None:
    """The vectors of the live generation, where the same embedder made them."""
    manifest = published(home)
    if manifest is None or manifest.settings.embedder != settings.embedder:
        return None
    return _stored(LocalIndex(home, manifest.settings))


def _report(version: IndexVersion, changes: Changes, work: Work, began: float) -> SyncReport:
    rejected = 0 if work.aside is None else len(work.aside.rejected)
    report = SyncReport(
        version=version,
        changed=len(changes.hashes) - rejected,
        removed=len(changes.removed),
        passages=work.passages,
        embedded=work.embedded,
        mode=changes.mode,
        reason=changes.reason,
        duration_s=time.monotonic() - began,
        quarantined=rejected,
        warnings=() if work.aside is None else tuple(work.aside.warnings),
        moments=work.moments,
    )
    _log.info(
        "synced index=%s generation=%s mode=%s changed=%d removed=%d embedded=%d seconds=%.3f "
        "reason=%s",
        version.index, version.generation, report.mode, report.changed, report.removed,
        report.embedded, report.duration_s, report.reason,
    )  # fmt: skip
    return report
