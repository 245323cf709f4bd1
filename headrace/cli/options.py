"""Options that several commands have."""

from typing import Annotated

import typer

Filter = Annotated[
    str | None, typer.Option("--filter", help='JSON, as over HTTP: \'{"kind": "module"}\'.')
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
