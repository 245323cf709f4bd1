"""What somebody at a terminal sees of a long sync."""

import io

import pytest
from rich.console import Console

from headrace.cli import progress


@pytest.fixture
def terminal(monkeypatch):
    shown = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(progress, "_console", shown)
    return shown.file


def test_a_bar_shows_rows_done_their_rate_and_the_time_left(terminal):
    with progress.rows_bar("documents") as report:
        for done in range(0, 100, 10):
            report(done, 100)
    assert "documents" in terminal.getvalue()
    assert "90/100" in terminal.getvalue()
    assert "rows/s" in terminal.getvalue()


def test_where_nobody_looks_nothing_is_written(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(progress, "_console", Console(file=written))
    with progress.rows_bar("documents") as report:
        report(1, 2)
    assert written.getvalue() == ""
