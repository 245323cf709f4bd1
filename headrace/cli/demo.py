"""`headrace demo`: from nothing to a cited answer, each step timed."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from headrace import assembly
from headrace.cli.ask import ask, print_answer
from headrace.cli.indexes import describe, sync_with_bar
from headrace.cli.models import pull_with_bar
from headrace.settings import load_settings
from llm_endpoint import find_card
from pipelines.demo_table import write_demo_table

QUESTION = "How do I read a CSV file into dictionaries?"


def run_demo() -> None:
    """Pulls the models, writes the table, syncs the index, asks, prints; repeats are quick."""
    settings = load_settings()
    with _step("models"):
        for name in (settings.embedder.weights, settings.generator.weights):
            pull_with_bar(find_card(name), settings.weights)
    table = assembly.index_section(settings, "docs").source.path
    if not (table / "_delta_log").is_dir():
        with _step("table"):
            print(f"{write_demo_table(table)} documents of Python's own documentation")
    embedder = assembly.build_embedder(settings)
    with _step("sync"):
        print(describe(sync_with_bar(settings, "docs", embedder)))
    with _step("answer"):
        print(f"\nQ: {QUESTION}")
        print_answer(asyncio.run(ask(settings, "docs", QUESTION, embedder)))


@contextmanager
def _step(name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"-- {name}: {time.perf_counter() - started:.1f} s")
