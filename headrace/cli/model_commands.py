"""`headrace models …`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.cli.options import Json

models = typer.Typer(no_args_is_help=True, help="Models: the catalogue, engines, what runs.")


@models.command("list")
def models_list(json: Json = False) -> None:
    """List the catalogue: task, engine, licence, precision, size, context, source."""
    from headrace.cli.models import run_list

    run_list(json)


@models.command("pull")
def models_pull(name: str, json: Json = False) -> None:
    """Download a model's weights and check or note their SHA-256."""
    from headrace.cli.models import run_pull

    run_pull(name, json)


@models.command("install-engine")
def models_install_engine(
    name: Annotated[Literal["vllm"], typer.Argument(help="Which engine.")],
    cpu: Annotated[
        bool | None,
        typer.Option("--cpu/--gpu", help="The build for CPUs; if not given, as this machine is."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where, if not below the state folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Install an engine into an environment of its own: minutes, and gigabytes."""
    from headrace.cli.models import run_install_engine

    run_install_engine(name, cpu, folder, json)


@models.command("convert")
def models_convert(name: str, json: Json = False) -> None:
    """Write a GGUF model of the catalogue as safetensors, for vLLM; its environment does it."""
    from headrace.cli.models import run_convert

    run_convert(name, json)


@models.command("plan")
def models_plan(json: Json = False) -> None:
    """Show which model runs where with which share of memory, or what does not fit."""
    from headrace.cli.serving_models import run_plan

    run_plan(json)


@models.command("ps")
def models_ps(json: Json = False) -> None:
    """List the models of the running server: state, replicas, requests that wait."""
    from headrace.cli.serving_models import run_ps

    run_ps(json)


@models.command("load")
def models_load(name: str, json: Json = False) -> None:
    """Start a model of the running server before anybody asks it."""
    from headrace.cli.serving_models import run_load

    run_load(name, json)


@models.command("unload")
def models_unload(name: str, json: Json = False) -> None:
    """Give the memory of a model of the running server back until it is asked again."""
    from headrace.cli.serving_models import run_unload

    run_unload(name, json)
