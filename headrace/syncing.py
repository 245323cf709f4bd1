"""One sync of an index out of settings: what it reads, what it sets aside, whom it tells."""

import logging
from functools import partial
from typing import Literal

import pyarrow as pa

from headrace import assembly, indexes
from headrace.drift_records import record_drift
from headrace.index_settings import LineageSection
from headrace.quarantines import quarantine_of
from headrace.settings import Settings
from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.embedding_drift import DriftGauges
from pipelines.engines import Engine, LocalEngine
from pipelines.errors import PipelineError
from pipelines.lineage import IndexMade, SyncRun, TableRead
from pipelines.lineage_sender import Deliver, LineageSender, to_file, to_http
from pipelines.parts import Progress
from pipelines.quality import QualityCheck, parse_checks
from pipelines.setting_aside import Rules, SettingAside
from pipelines.sources import TableSource
from pipelines.sync import SyncReport, sync
from vector_index.errors import VectorIndexError
from vector_index.passages import ARROW_TYPES, MetadataType
from vector_index.protocol import SyncedIndex

EngineName = Literal["local", "ray"]

_log = logging.getLogger(__name__)


def setting_aside(
    settings: Settings, name: str, retried: frozenset[str] = frozenset()
) -> SettingAside:
    """Where an index's rows go that cannot be indexed. Raises BadCheck for a rule that is none."""
    section = indexes.index_section(settings, name)
    checks: tuple[QualityCheck, ...] = ()
    if section.quality:
        checks = parse_checks(section.quality, _schema(indexes.build_source(settings, name)))
    rules = Rules(checks, max_bytes=section.max_text_bytes)
    return SettingAside(
        quarantine_of(settings, name), section.key, section.text_column, rules, retried
    )


def build_engine(
    settings: Settings,
    name: str,
    engine: EngineName,
    embedder: Embedder,
    *,
    workers: int | None = None,
) -> Engine:
    """Where an index's texts are cut and embedded. workers: as RayEngine's. Raises MissingExtra."""
    chunk = indexes.build_chunker(settings, name, embedder)
    if engine == "local":
        return LocalEngine(embedder, chunk)
    from pipelines.engines.ray_data import RayEngine

    return RayEngine(partial(_tools, settings, name), chunk, workers=workers)


def _tools(settings: Settings, name: str) -> tuple[Embedder, Chunker]:
    """As they are here, made on a worker of Ray."""
    section = indexes.index_section(settings, name)
    embedder = assembly.build_embedder(settings, section.embedder)
    return embedder, indexes.build_chunker(settings, name, embedder)


def run_sync(
    settings: Settings,
    name: str,
    index: SyncedIndex,
    embedder: Embedder,
    *,
    engine: Engine | None = None,
    on_progress: Progress | None = None,
    lineage: LineageSender | None = None,
) -> SyncReport:
    """As `pipelines.sync`, of one index of headrace.yaml; lineage: whom to tell of it.

    engine: of `build_engine`, None for this process.
    """
    source = indexes.build_source(settings, name)
    run = None if lineage is None else SyncRun(name, lineage, _namespace(settings))
    if run is not None:
        run.start()
    try:
        report = sync(
            source,
            index,
            embedder,
            indexes.build_chunker(settings, name, embedder),
            engine=engine,
            aside=setting_aside(settings, name),
            on_progress=on_progress,
        )
    except BaseException as exc:
        if run is not None:
            run.fail(exc)
        raise
    drift = record_drift(settings, name, report, embedder.info)
    if run is not None:
        try:
            run.complete(*_told(settings, name, source, index, report, drift))
        except (PipelineError, VectorIndexError) as exc:
            # The table may be gone by now; the sync has published all the same.
            _log.warning("lineage_untold index=%s reason=%s", name, exc)
    return report


def open_lineage(settings: Settings) -> LineageSender | None:
    """Whom syncs are told to, None for nobody. End it with `close`."""
    section = settings.lineage
    return None if section is None else LineageSender(_deliver(section))


def _deliver(section: LineageSection) -> Deliver:
    if section.file is not None:
        return to_file(section.file)
    assert section.url is not None
    key = None if section.api_key is None else section.api_key.get_secret_value()
    return to_http(section.url, api_key=key)


def _namespace(settings: Settings) -> str:
    return "headrace" if settings.lineage is None else settings.lineage.namespace


def _told(
    settings: Settings,
    name: str,
    source: TableSource,
    index: SyncedIndex,
    report: SyncReport,
    drift: DriftGauges | None,
) -> tuple[TableRead, IndexMade]:
    built = indexes.built_settings(settings, name)
    assert built is not None
    section = indexes.index_section(settings, name)
    documents, passages = index.count()
    place = section.milvus.uri if section.milvus else str(indexes.index_home(settings, name))
    made = IndexMade(
        uri=f"{place}/{name}" if section.milvus else place,
        version=report.version,
        settings=built,
        documents=documents,
        passages=passages,
        written=report.changed,
        removed=report.removed,
        drift=drift,
    )
    table = section.source.path or ", ".join(section.source.tables.values())
    return TableRead(table, report.version.source, _schema(source)), made


def _schema(source: TableSource) -> pa.Schema:
    """The mapped columns, as an index reads them."""
    mapping = source.mapping
    kinds: dict[str, MetadataType] = dict.fromkeys(mapping.columns(), "string")
    if mapping.groups:
        kinds[mapping.groups] = "strings"
    if mapping.updated_at:
        kinds[mapping.updated_at] = "timestamp"
    types = {name: ARROW_TYPES[kind] for name, kind in (kinds | source.metadata_types()).items()}
    if mapping.vector:
        types[mapping.vector] = pa.list_(pa.float32())
    return pa.schema(list(types.items()))
