"""The command line. Each command calls one function; heavy imports wait until it runs."""

import sys
from typing import Annotated

import typer

from headrace.cli.batch_command import batch
from headrace.cli.index_commands import index
from headrace.cli.model_commands import models
from headrace.cli.options import Filter, Json

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Cited answers from your tables."
)
config = typer.Typer(no_args_is_help=True, help="The settings in force.")
app.command()(batch)
app.add_typer(config, name="config")
features = typer.Typer(no_args_is_help=True, help="Online features, kept by Feast.")
app.add_typer(features, name="features")
app.add_typer(index, name="index")
app.add_typer(models, name="models")


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
