"""`headrace index`."""

import dataclasses
import json as json_module
from dataclasses import replace

from headrace import assembly, indexes, syncing
from headrace.cli.ask import parse_json
from headrace.cli.progress import rows_bar
from headrace.drift_records import record_drift
from headrace.settings import Settings, load_settings
from headrace.status import status_form
from headrace.syncing import EngineName
from headrace.watching import sync_once
from pipelines.sync import SyncReport, rebuild
from rag_chain.question import check_question
from rag_chain.retrieval import Lookup, Retriever
from vector_index.building import create
from vector_index.checks import check_k
from vector_index.filters import parse_filter
from vector_index.query import check_query_type


def run_sync(name: str, engine: EngineName, workers: int | None, as_json: bool) -> None:
    """Syncs the index and prints what was done; workers: of Ray."""
    settings = load_settings()
    indexes.index_section(settings, name)
    _print_report(sync_with_bar(settings, name, engine, workers), as_json)


def run_status(name: str, as_json: bool) -> None:
    """Prints the live generation, its distance to the table, and how its syncs go."""
    form = status_form(load_settings(), name)
    if as_json:
        print(json_module.dumps(form, default=str))
        return
    for key, value in form.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for inner, shown in rows:
            print(f"{f'{key}.{inner}'.rstrip('.'):24} {shown}")


def run_search(
    name: str, text: str, k: int, query_type: str, where: str | None, as_json: bool
) -> None:
    """Prints the k passages that fit a text best, best first."""
    settings = load_settings()
    check_question(text)
    check_k(k)
    embedder = assembly.build_embedder(settings, indexes.any_section(settings, name).embedder)
    index = indexes.open_index(settings, name, embedder)
    tree = None if where is None else parse_filter(parse_json(where), index.metadata_columns)
    access, mode = assembly.access_of(settings), check_query_type(query_type)
    found = Retriever(index, embedder).find(Lookup(text, k, access, tree, mode))
    if as_json:
        print(json_module.dumps(dataclasses.asdict(found), default=str))
        return
    for hit in found.hits:
        print(f"{hit.score:.3f}  {hit.passage.document_id}  {hit.passage.text[:80]!r}")


def run_create(name: str, as_json: bool) -> None:
    """Publishes an empty generation, which `sync` or a server then fills."""
    settings = load_settings()
    embedder = assembly.build_embedder(settings, indexes.any_section(settings, name).embedder)
    if name in settings.direct_indexes:
        version = indexes.create_direct(settings, name, embedder)
        filled = f"`POST /indexes/{name}/upsert` of a server fills it"
    else:
        made = indexes.table_index_settings(settings, name, embedder)
        before_any = replace(indexes.build_source(settings, name).version(), version=-1)
        version = create(indexes.index_home(settings, name), made, before_any)
        filled = f"`headrace index sync {name}` fills it"
    if as_json:
        print(json_module.dumps({"index": name, "generation": version.generation}))
    else:
        print(f"{name}: empty; {filled}")


def run_rebuild(name: str, as_json: bool) -> None:
    """Builds the index anew under the settings in force, and switches to it."""
    settings = load_settings()
    indexes.index_section(settings, name)
    home = indexes.published_home(settings, name)
    embedder = assembly.build_embedder(settings, settings.indexes[name].embedder)
    with rows_bar("documents") as on_progress:
        report = rebuild(
            indexes.build_source(settings, name),
            home,
            indexes.table_index_settings(settings, name, embedder),
            embedder,
            indexes.build_chunker(settings, name, embedder),
            aside=syncing.setting_aside(settings, name),
            on_progress=on_progress,
        )
    record_drift(settings, name, report, embedder.info)
    _print_report(report, as_json)


def sync_with_bar(
    settings: Settings, name: str, engine: EngineName = "local", workers: int | None = None
) -> SyncReport:
    """Syncs behind a progress bar of documents done."""
    embedder = assembly.build_embedder(settings, settings.indexes[name].embedder)
    index = indexes.build_index(settings, name, embedder)
    lineage = syncing.open_lineage(settings)
    try:
        with rows_bar("documents") as on_progress:
            return sync_once(
                settings,
                name,
                embedder,
                index,
                engine=syncing.build_engine(settings, name, engine, embedder, workers=workers),
                on_progress=on_progress,
                lineage=lineage,
            )
    finally:
        if lineage is not None:
            lineage.close()


def describe(report: SyncReport) -> str:
    """The report in one line."""
    if report.is_noop:
        return f"{report.version.index}: already at table version {report.version.source.version}"
    return (
        f"{report.version.index}: {report.changed} documents changed, {report.removed} removed, "
        f"{report.embedded} texts embedded, generation {report.version.generation} "
        f"({report.mode}: {report.reason})" + _aside(report)
    )


def _aside(report: SyncReport) -> str:
    name = report.version.index
    rows = f"; {report.quarantined} rows in quarantine, see `headrace index quarantine {name}`"
    return (rows if report.quarantined else "") + "".join(f"; {one}" for one in report.warnings)


def _print_report(report: SyncReport, as_json: bool) -> None:
    print(json_module.dumps(report_form(report)) if as_json else describe(report))


def report_form(report: SyncReport) -> dict[str, object]:
    """The report as JSON prints it."""
    return {
        "index": report.version.index,
        "generation": report.version.generation,
        "table_version": report.version.source.version,
        "changed": report.changed,
        "removed": report.removed,
        "passages": report.passages,
        "embedded": report.embedded,
        "noop": report.is_noop,
        "mode": report.mode,
        "reason": report.reason,
        "quarantined": report.quarantined,
        "warnings": list(report.warnings),
        "duration_s": round(report.duration_s, 3),
    }
