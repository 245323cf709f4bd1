"""`headrace index …`."""

from typing import Annotated, Literal

import typer

from headrace.cli.options import Filter, Json

index = typer.Typer(no_args_is_help=True, help="Build, inspect and search indexes.")


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
