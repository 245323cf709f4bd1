"""`headrace batch` out of settings: which table, which engine, which folder."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from headrace import assembly
from headrace.model_settings import LlamaCppModel, VllmModel
from headrace.settings import Settings, section_named
from headrace.settings_file import InvalidSettings
from llm_endpoint.generation import LocalEngine, TextEngine
from pipelines.batch import (
    Asker,
    BatchPlan,
    BatchReport,
    Pace,
    PinnedRows,
    PromptTemplate,
    ResultTable,
    answer_rows,
    open_rows,
)
from pipelines.errors import BatchRefused
from pipelines.parts import Progress

_REMOTE_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What the command line says; None is the default of headrace.yaml, or of the engine.

    server: the URL of a running server to ask, in place of an engine of our own; api_key: its key.
    """

    table: str
    prompt: str
    out: Path
    key: str
    model: str | None
    system: str | None
    max_tokens: int
    temperature: float
    concurrency: int | None
    limit: int | None
    server: str | None
    api_key: str | None
    retry_errors: bool
    overwrite: bool


def run(settings: Settings, options: BatchOptions, on_progress: Progress) -> BatchReport:
    """Asks every row that has no result yet.

    Raises InvalidSettings, PipelineError, LlmEndpointError; what was answered is kept.
    """
    PromptTemplate(options.prompt)
    name = _model(settings, options)
    results = ResultTable(options.out)
    with results.alone():
        rows, plan = _begin(options, name, results)
        engine = _engine(settings, options, name)
        return asyncio.run(_answer(settings, options, rows, results, plan, engine, on_progress))


async def _answer(
    settings: Settings,
    options: BatchOptions,
    rows: PinnedRows,
    results: ResultTable,
    plan: BatchPlan,
    engine: TextEngine,
    on_progress: Progress,
) -> BatchReport:
    if isinstance(engine, LocalEngine):
        engine.start()
    timeout_s = settings.gateway.timeout_s
    try:
        return await answer_rows(
            rows,
            results,
            Asker(engine, plan, timeout_s=timeout_s),
            model=plan.model,
            pace=Pace(options.concurrency or _concurrency(settings, plan.model, options)),
            limit=options.limit,
            on_progress=on_progress,
        )
    finally:
        await engine.close()


def _begin(options: BatchOptions, model: str, results: ResultTable) -> tuple[PinnedRows, BatchPlan]:
    """The rows and the plan: those of the results that are there, or new ones.

    Raises BatchRefused where results of another plan are there.
    """
    found = results.plan()
    if found is not None and options.overwrite:
        results.remove()
        found = None
    # A run that goes on reads the version that it began with, whatever was committed since.
    rows = _rows(options, None if found is None else found.table_version)
    plan = _plan(options, model, rows)
    if found is None:
        rows.check_keys()
        results.create(plan, rows.key_type)
    elif differences := found.differences(plan):
        raise BatchRefused(
            f"{results.folder} has the results of another run ({'; '.join(differences)}); "
            "ask the same again to go on with it, name another --out, or discard it by --overwrite"
        )
    elif options.retry_errors:
        results.forget_errors()
    return rows, plan


def _rows(options: BatchOptions, version: int | None) -> PinnedRows:
    columns = PromptTemplate(options.prompt).columns
    return open_rows(options.table, key=options.key, columns=columns, version=version)


def _plan(options: BatchOptions, model: str, rows: PinnedRows) -> BatchPlan:
    return BatchPlan(
        table=options.table,
        table_identity=rows.pinned.identity,
        table_version=rows.pinned.version,
        key=options.key,
        prompt=options.prompt,
        system=options.system,
        model=model,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
    )


def _model(settings: Settings, options: BatchOptions) -> str:
    """The model's name: of headrace.yaml, or whatever the server knows."""
    generators = settings.models_by_task["generation"]
    if options.model is None:
        if not generators:
            raise InvalidSettings("headrace.yaml has no model of task generation; name a --model")
        return generators[0]
    if options.server is None:
        section_named(settings.models, options.model, "model")
        if options.model not in generators:
            task = settings.models[options.model].task
            raise InvalidSettings(
                f"model {options.model!r} is of task {task}; these write text: "
                f"{', '.join(generators) or 'none'}"
            )
    return options.model


def _engine(settings: Settings, options: BatchOptions, model: str) -> TextEngine:
    if options.server is None:
        return assembly.build_generator(settings, model)
    from llm_endpoint.generation.openai import OpenAIGenerator

    base_url = f"{options.server.rstrip('/').removesuffix('/v1')}/v1"
    # The server knows its context and refuses what is longer.
    return OpenAIGenerator(base_url, model, api_key=options.api_key, context_tokens=2**31)


def _concurrency(settings: Settings, model: str, options: BatchOptions) -> int:
    """As many rows at once as the engine answers at once: more would wait inside it."""
    section = settings.models.get(model)
    if options.server is None and isinstance(section, LlamaCppModel | VllmModel):
        return section.parallel
    return _REMOTE_CONCURRENCY
