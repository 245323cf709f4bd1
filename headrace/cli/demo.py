"""`headrace demo`: from nothing to a cited answer, each step timed."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_store.errors import FeaturesNotApplied
from headrace import assembly, indexes
from headrace.cli.ask import ask, print_answer
from headrace.cli.indexes import describe, sync_with_bar
from headrace.cli.models import pull_with_bar
from headrace.cli.progress import working
from headrace.model_settings import LlamaCppModel, OnnxModel
from headrace.settings import Settings, load_settings
from llm_endpoint import find_card
from pipelines.demo_features import DOCUMENT_STATS, write_demo_features
from pipelines.demo_table import write_demo_table

QUESTION = "How do I read a CSV file into dictionaries?"
INDEX = CHAIN = "docs"
USER = "ada"
_DAYS = 365


def run_demo() -> None:
    """Pulls the models, writes the table, syncs the index, asks, prints; repeats are quick."""
    settings = load_settings()
    with _step("models"):
        for model in settings.models.values():
            if isinstance(model, OnnxModel | LlamaCppModel):
                pull_with_bar(find_card(model.weights), settings.weights)
    table = Path(indexes.index_section(settings, INDEX).source.path or "")
    if not (table / "_delta_log").is_dir():
        with _step("table"):
            print(f"{write_demo_table(table)} documents of Python's own documentation")
    with _step("features"), working("feast apply and materialize"):
        _load_features(settings, table)
    with _step("sync"):
        print(describe(sync_with_bar(settings, INDEX)))
    with _step("answer"):
        print(f"\nQ: {QUESTION} (asked by {USER})")
        print_answer(asyncio.run(ask(settings, CHAIN, QUESTION, user=USER)))


def _load_features(settings: Settings, documents: Path) -> None:
    """Writes the feature tables once; applies what is not applied; loads the newest rows."""
    from feature_store.feast_store import FeastFeatures, apply, materialize

    section = assembly.features_section(settings)
    if not (documents.parent / DOCUMENT_STATS / "_delta_log").is_dir():
        write_demo_features(documents, documents.parent)
    try:
        FeastFeatures(section.repo, section.service)
    except FeaturesNotApplied:
        (settings.state_dir / "features").mkdir(exist_ok=True)
        apply(section.repo)
    now = datetime.now(UTC)
    materialize(section.repo, now - timedelta(days=_DAYS), now)


@contextmanager
def _step(name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"-- {name}: {time.perf_counter() - started:.1f} s")
