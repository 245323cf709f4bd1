"""Signs of life on standard error, on a terminal only: standard output may be somebody's JSON."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.text import Text

from pipelines.parts import Progress as Report

_console = Console(stderr=True)


def bar(*columns: str | ProgressColumn) -> Progress:
    """A progress bar that is gone when the work is done."""
    return Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal)


@contextmanager
def rows_bar(what: str) -> Iterator[Report]:
    """A bar of rows done: how many of how many, rows a second, the time that is left.

    What it yields gets (rows done, rows to do).
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with bar(*columns) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def working(what: str) -> Status:
    """A spinner beside `what`, for work of unknown length."""
    return _console.status(what)


class _Rate(ProgressColumn):
    """Rows a second over the last half a minute, as rich measures speed."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s")
