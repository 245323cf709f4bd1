"""The client as other people get it: small, alone, and as its README says."""

import ast
import contextlib
import inspect
import io
import pickle
import re
import sys
import tomllib
from pathlib import Path

import pytest

import headrace_client
from headrace_client import errors

ROOT = Path(__file__).parents[2] / "client"
PACKAGE = ROOT / "headrace_client"


def test_it_imports_the_standard_library_its_one_dependency_and_itself():
    imported = {
        name.split(".")[0]
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in _names(node)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (dependency,) = project["dependencies"]
    ours = {"headrace_client", re.match(r"\w+", dependency).group()}
    assert imported - sys.stdlib_module_names == ours


def test_the_tree_of_errors_is_drawn_as_it_is():
    real = {
        name: kind.__base__.__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.HeadraceError)
    }
    assert _drawn(errors.__doc__) == {**real, "HeadraceError": None}
    assert set(real) <= set(headrace_client.__all__)


@pytest.mark.parametrize(
    "error",
    [
        errors.Overloaded(429, "full", "overloaded", None, 1.0),
        errors.InvalidField("a.b", "is missing"),
        errors.DeadlineExceeded(2.0),
        errors.ServerUnreachable("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_to_another_process(error):
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


def test_the_code_in_the_readme_runs(served, monkeypatch):
    monkeypatch.setenv("HEADRACE_URL", served.url)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
        assert "The csv module reads tabular data. [1]" in printed.getvalue()


def _names(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def _drawn(text):
    """The name above each name of a tree, None above its root."""
    tree, above = {}, {-1: None}
    for match in re.finditer(r"^((?:[│ ]   )*)([├└]── )?([A-Z]\w+)(?:  |$)", text, re.MULTILINE):
        depth = len(match[1]) // 4 + bool(match[2])
        above[depth] = match[3]
        tree[match[3]] = above[depth - 1]
    return tree
