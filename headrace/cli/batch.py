"""`headrace batch`."""

import dataclasses
import json as json_module
import os
import sys

import typer

from headrace import batch
from headrace.batch import BatchOptions
from headrace.cli.progress import rows_bar
from headrace.settings import load_settings
from pipelines.errors import BadPrompt

# The engine inherits it: a server on this machine is served first.
_NICENESS = 10


def run_batch(options: BatchOptions, as_json: bool) -> None:
    """Answers the rows and prints how many; exits 1 where some have an error beside them."""
    settings = load_settings()
    os.nice(_NICENESS)
    try:
        with rows_bar(f"answering {options.table}") as on_progress:
            report = batch.run(settings, options, on_progress)
    except BadPrompt as exc:
        raise typer.BadParameter(str(exc)) from exc
    if as_json:
        print(json_module.dumps({"out": str(options.out), **dataclasses.asdict(report)}))
    else:
        print(
            f"{options.out}: {report.answered} of {report.rows} rows answered in "
            f"{report.seconds:.1f} s, {report.kept} were there, {report.failed} have an error"
        )
    if report.failed:
        print(
            f"headrace: {report.failed} rows have an error in column `error` of {options.out}; "
            "the same command with --retry-errors asks them again",
            file=sys.stderr,
        )
        raise typer.Exit(1)
