"""The command line. Each command calls one function; heavy imports wait until it runs."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.cli.batch_command import batch

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Cited answers from your tables."
)
index = typer.Typer(no_args_is_help=True, help="Build, inspect and search indexes.")
models = typer.Typer(no_args_is_help=True, help="The models in the catalogue.")
config = typer.Typer(no_args_is_help=True, help="The settings in force.")
app.command()(batch)
app.add_typer(config, name="config")
features = typer.Typer(no_args_is_help=True, help="Online features, kept by Feast.")
app.add_typer(features, name="features")
app.add_typer(index, name="index")
app.add_typer(models, name="models")

Filter = Annotated[
    str | None, typer.Option("--filter", help='JSON, as over HTTP: \'{"kind": "module"}\'.')
]
Engine = Annotated[Literal["local", "ray"], typer.Option(help="Where texts are cut and embedded.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def demo() -> None:
    """Set up everything, sync a real table, ask a question, print a cited answer."""
    from headrace.cli.demo import run_demo

    run_demo()


@app.command()
def query(
    question: str,
    chain: Annotated[str | None, typer.Option(help="Default: the first one.")] = None,
    user: Annotated[str | None, typer.Option(help="Whose features word the answer.")] = None,
    k: Annotated[int | None, typer.Option(help="Passages for the prompt.")] = None,
    where: Filter = None,
    json: Json = False,
) -> None:
    """Ask a chain a question."""
    from headrace.cli.ask import run_query

    run_query(question, chain, user, k, where, json)


@app.command()
def serve() -> None:
    """Answer over HTTP, following every index of headrace.yaml."""
    from headrace.cli.serve import run_serve

    run_serve()


@index.command("create")
def index_create(name: str, json: Json = False) -> None:
    """Make an index that holds nothing yet."""
    from headrace.cli.indexes import run_create

    run_create(name, json)


@index.command("sync")
def index_sync(
    name: str,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Where texts are cut and embedded.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Actors of Ray; one a node if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Make an index equal to its table, embedding only what changed."""
    from headrace.cli.indexes import run_sync

    if workers is not None and engine != "ray":
        raise typer.BadParameter(f"--workers {workers} is for --engine ray, this is {engine}")
    run_sync(name, engine, workers, json)


@index.command("watch")
def index_watch(name: str, json: Json = False) -> None:
    """Sync every new commit of the table until interrupted; a line for each."""
    from headrace.cli.watch import run_watch

    run_watch(name, json)


@index.command("rebuild")
def index_rebuild(name: str, json: Json = False) -> None:
    """Build an index anew under changed settings beside the live one, and switch to it."""
    from headrace.cli.indexes import run_rebuild

    run_rebuild(name, json)


@index.command("search")
def index_search(
    name: str,
    text: str,
    k: Annotated[int, typer.Option(help="Passages to show.")] = 10,
    query_type: Annotated[str, typer.Option("--type", help="ann, full_text or hybrid.")] = "ann",
    where: Filter = None,
    json: Json = False,
) -> None:
    """Show the passages that fit a text best."""
    from headrace.cli.indexes import run_search

    run_search(name, text, k, query_type, where, json)


@index.command("status")
def index_status(name: str, json: Json = False) -> None:
    """Show an index's generation, its table version and how far it is behind."""
    from headrace.cli.indexes import run_status

    run_status(name, json)


@index.command("stats")
def index_stats(name: str, json: Json = False) -> None:
    """Show what an index consists of: segments, their kinds and why, sizes."""
    from headrace.cli.contents import run_stats

    run_stats(name, json)


@index.command("scan")
def index_scan(
    name: str,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
    limit: Annotated[int, typer.Option(help="Documents to show.")] = 20,
    json: Json = False,
) -> None:
    """Page through the documents you may see, in the order of their ids."""
    from headrace.cli.contents import run_scan

    run_scan(name, after, limit, json)


@index.command("history")
def index_history(name: str, json: Json = False) -> None:
    """List the kept generations, newest first, and what each was built with."""
    from headrace.cli.generations import run_history

    run_history(name, json)


@index.command("rollback")
def index_rollback(name: str, generation: int, json: Json = False) -> None:
    """Make a kept generation live again, by its number."""
    from headrace.cli.generations import run_rollback

    run_rollback(name, generation, json)


@index.command("purge")
def index_purge(name: str, json: Json = False) -> None:
    """Take the text of deleted and replaced documents off the disk, and older generations."""
    from headrace.cli.generations import run_purge

    run_purge(name, json)


@index.command("verify")
def index_verify(
    name: str,
    table: Annotated[
        bool, typer.Option("--table", help="Compare every key and content hash with the table.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="With --table: apply again what differs.")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=0, help="With --table: documents whose passages are read too.")
    ] = 1000,
    json: Json = False,
) -> None:
    """Hash every file of every kept generation and measure recall, or compare with the table."""
    from headrace.cli.generations import run_verify
    from headrace.cli.proof import run_prove

    if table or repair:
        run_prove(name, repair, sample, json)
    else:
        run_verify(name, json)


@index.command("quarantine")
def index_quarantine(
    name: str,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    json: Json = False,
) -> None:
    """List the rows that could not be indexed, and why."""
    from headrace.cli.quarantine import run_quarantine

    run_quarantine(name, limit, json)


@index.command("retry")
def index_retry(
    name: str,
    every: Annotated[
        bool, typer.Option("--all", help="Rows too that fail the same way until they change.")
    ] = False,
    json: Json = False,
) -> None:
    """Try the rows in quarantine again."""
    from headrace.cli.quarantine import run_retry

    run_retry(name, every, json)


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


@features.command("apply")
def features_apply(json: Json = False) -> None:
    """Register the definitions of the Feast repository."""
    from headrace.cli.features import run_apply

    run_apply(json)


@features.command("materialize")
def features_materialize(
    days: Annotated[int, typer.Option(min=1, max=36500, help="How far back to look.")] = 365,
    json: Json = False,
) -> None:
    """Load the newest feature rows of the last days into the online store."""
    from headrace.cli.features import run_materialize

    run_materialize(days, json)


@features.command("get")
def features_get(view: str, key: str, json: Json = False) -> None:
    """Show one key's features and how old they are."""
    from headrace.cli.features import run_get

    run_get(view, key, json)


@app.command()
def doctor(json: Json = False) -> None:
    """Check settings, models, tables, indexes, features and port; say how to mend each."""
    from headrace.cli.doctor import run_doctor

    run_doctor(json)


@config.command("show")
def config_show(json: Json = False) -> None:
    """Show every setting: headrace.yaml, environment overrides, defaults."""
    from headrace.cli.config import run_show

    run_show(json)


def explain(error: Exception) -> int:
    """Prints a known error as one line and returns its exit code; raises any other."""
    from feature_store.errors import FeatureStoreError
    from headrace.running_server import ServerRefused, ServerUnreachable
    from headrace.settings_file import InvalidSettings
    from llm_endpoint import LlmEndpointError
    from pipelines.errors import PipelineError
    from rag_chain.errors import RagChainError
    from vector_index.errors import VectorIndexError

    known = (
        FeatureStoreError,
        LlmEndpointError,
        PipelineError,
        RagChainError,
        ServerRefused,
        ServerUnreachable,
        VectorIndexError,
    )
    if not isinstance(error, (InvalidSettings, *known)):
        raise error
    print(f"headrace: {error}", file=sys.stderr)
    return 2 if isinstance(error, InvalidSettings) else 1
