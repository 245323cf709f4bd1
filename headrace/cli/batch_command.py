"""`headrace batch` as typer sees it: its options, and nothing heavy."""

import os
from pathlib import Path
from typing import Annotated

import typer


def batch(
    table: Annotated[str, typer.Option(help="Path or URL of a Delta or Parquet table.")],
    prompt: Annotated[str, typer.Option(help="With columns in it: 'Summarise: {body}'.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, a Delta table.")],
    key: Annotated[str, typer.Option(help="Column that tells rows apart.")] = "id",
    model: Annotated[str | None, typer.Option(help="Default: the first one.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt of every row.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0: the likeliest.")] = 0.0,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Rows at once; default: what the engine takes."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows to answer at most.")] = None,
    server: Annotated[
        str | None, typer.Option(help="Ask the server at this URL, with $HEADRACE_API_KEY.")
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask rows that have an error once more.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Discard other results in the folder.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Ask a model about every row of a table; run again, it goes on where it was."""
    from headrace.batch import BatchOptions
    from headrace.cli.batch import run_batch

    options = BatchOptions(
        table=table,
        prompt=prompt,
        out=out,
        key=key,
        model=model,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        concurrency=concurrency,
        limit=limit,
        server=server,
        api_key=os.environ.get("HEADRACE_API_KEY"),
        retry_errors=retry_errors,
        overwrite=overwrite,
    )
    run_batch(options, json)
