"""`headrace models`."""

import json as json_module
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn

from headrace.cli.progress import bar
from headrace.settings import load_settings
from llm_endpoint import CATALOGUE, ModelCard, find_card, pull
from llm_endpoint import Progress as PullProgress


def run_list(as_json: bool) -> None:
    """Prints one line a model, or a JSON array."""
    cards = [
        {
            "name": card.name,
            "task": card.task,
            "engine": card.engine,
            "licence": card.licence,
            "size_bytes": card.size_bytes,
        }
        for card in CATALOGUE
    ]
    if as_json:
        print(json_module.dumps(cards))
        return
    for card in cards:
        print("{name:30} {task:12} {engine:22} {licence:12} {size_bytes:>12,}".format(**card))


def run_pull(name: str, as_json: bool) -> None:
    """Pulls one model of the catalogue and prints where it is."""
    folder = pull_with_bar(find_card(name), load_settings().weights)
    print(json_module.dumps({"model": name, "folder": str(folder)}) if as_json else folder)


def pull_with_bar(card: ModelCard, weights_dir: Path) -> Path:
    """Pulls a model behind a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with bar(*columns) as shown:
        tasks: dict[str, object] = {}

        def show(progress: PullProgress) -> None:
            label = f"{progress.stage} {progress.what}"
            if label not in tasks:
                tasks[label] = shown.add_task(label, total=progress.total_bytes)
            shown.update(tasks[label], completed=progress.done_bytes)  # type: ignore[arg-type]

        return pull(card, weights_dir, on_progress=show)
