"""Signs of life on standard error, on a terminal only: standard output may be somebody's JSON."""

from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import Progress, ProgressColumn

_console = Console(stderr=True)


def bar(*columns: str | ProgressColumn) -> Progress:
    """A progress bar that is gone when the work is done."""
    return Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal)


def working(what: str) -> AbstractContextManager[object]:
    """A spinner beside `what`, for work of unknown length."""
    return _console.status(what)
