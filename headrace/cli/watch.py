"""`headrace index watch`."""

import json as json_module
import signal
import sys

from headrace import assembly, indexes
from headrace.cli.indexes import describe, report_form
from headrace.settings import load_settings
from headrace.watching import build_watcher
from pipelines.sync import SyncReport


def run_watch(name: str, as_json: bool) -> None:
    """Syncs every new commit until SIGINT or SIGTERM, and prints a line for each."""
    settings = load_settings()
    section = indexes.index_section(settings, name)
    embedder = assembly.build_embedder(settings, section.embedder)
    index = indexes.build_index(settings, name, embedder)

    def show(report: SyncReport) -> None:
        line = json_module.dumps(report_form(report)) if as_json else describe(report)
        print(line, flush=True)

    watcher = build_watcher(settings, name, embedder, index, on_sync=show)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: watcher.tell_to_stop())
    print(f"watching the table of {name}", file=sys.stderr, flush=True)
    watcher.run()
