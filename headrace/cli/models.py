"""`headrace models`."""

import json as json_module
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn

from headrace.cli.progress import bar, working
from headrace.settings import load_settings
from headrace.vllm import converted_folder, engines_dir, find_executable
from llm_endpoint import CATALOGUE, ModelCard, find_card, pull, resolve
from llm_endpoint import Progress as PullProgress
from llm_endpoint.conversion import convert_gguf
from llm_endpoint.engine_install import has_card, install_vllm
from llm_endpoint.hub import HUB_MODELS, HubCard, find_hub_card, pull_from_hub


def run_list(as_json: bool) -> None:
    """Prints one line a model, or a JSON array."""
    cards: list[ModelCard | HubCard] = [*CATALOGUE, *HUB_MODELS]
    forms = [
        {
            "name": card.name,
            "task": card.task,
            "engine": card.engine,
            "licence": card.licence,
            "precision": card.precision,
            "size_bytes": card.size_bytes,
            "max_tokens": card.max_tokens,
            "source": "wheel" if isinstance(card, ModelCard) else f"hub {card.repository}",
            "is_checked": isinstance(card, ModelCard),
        }
        for card in cards
    ]
    if as_json:
        print(json_module.dumps(forms))
        return
    for form in forms:
        print("{name:30} {task:10} {engine:21} {licence:11} {precision:9} "
              "{size_bytes:>14,} {max_tokens:>7,}  {source}".format(**form))  # fmt: skip


def run_pull(name: str, as_json: bool) -> None:
    """Pulls one model of the catalogue and prints where it is."""
    weights = load_settings().weights
    if (card := find_hub_card(name)) is not None:
        with working(f"pulling {card.repository}"):
            folder = pull_from_hub(card, weights)
    else:
        folder = pull_with_bar(find_card(name), weights)
    print(json_module.dumps({"model": name, "folder": str(folder)}) if as_json else folder)


def run_install_engine(name: str, cpu: bool | None, folder: Path | None, as_json: bool) -> None:
    """Makes the engine's own environment and prints its executable."""
    target = folder or engines_dir(load_settings()) / name
    is_cpu = not has_card() if cpu is None else cpu
    with working("") as shown:
        executable = install_vllm(
            target, cpu=is_cpu, on_step=lambda what: shown.update(f"{name}: {what}")
        )
    form = {"engine": name, "executable": str(executable), "cpu": is_cpu}
    print(json_module.dumps(form) if as_json else executable)


def run_convert(name: str, as_json: bool) -> None:
    """Writes a catalogue model as safetensors and prints the folder."""
    settings = load_settings()
    source = resolve(name, settings.weights)
    card = find_card(name)
    target = converted_folder(settings, name)
    python = find_executable(settings).with_name("python")
    with working(f"converting {name}"):
        convert_gguf(source.folder / card.main_file, target, python=python, name=name)
    form = {"model": name, "folder": str(target)}
    print(json_module.dumps(form) if as_json else target)


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
