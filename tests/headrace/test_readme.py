"""The README's own lines, run as they stand there in a workspace with three rows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def commands(block):
    return block.replace("\\\n", " ").strip().splitlines()


def test_there_is_something_to_run():
    assert sum(len(commands(block)) for block in SHELL) >= 5
    assert PYTHON


@pytest.fixture(scope="module")
def readme_server(serve):
    return serve()


@pytest.mark.parametrize("line", [line for block in SHELL for line in commands(block)])
def test_a_line_of_the_readme_does_what_it_says(readme_server, line):
    if "doctor" in line:
        # The README runs it before anything serves; here the server has the port.
        line = f"HEADRACE_GATEWAY__PORT={readme_server.port + 1} {line}"
    line = line.replace("localhost:8080", f"127.0.0.1:{readme_server.port}")
    line = line.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    workspace = readme_server.workspace
    done = subprocess.run(
        line, shell=True, cwd=workspace.folder, env=workspace.environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert '"error"' not in done.stdout


@pytest.mark.parametrize("block", PYTHON)
def test_the_python_of_the_readme_prints_a_cited_answer(readme_server, block):
    block = block.replace("127.0.0.1:8080", f"127.0.0.1:{readme_server.port}")
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "['csv'" in done.stdout


def test_the_python_of_the_openai_page_prints_an_answer_and_its_citations(readme_server):
    page = (ROOT / "docs" / "openai.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    block = block.replace("127.0.0.1:8080", f"127.0.0.1:{readme_server.port}")
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    # Which there are depends on the model's words: none, or some.
    answer, citations = done.stdout.strip().rsplit("\n", 1)
    assert answer
    assert citations.startswith("[")


def test_the_python_of_the_index_guide_finds_what_it_wrote(tmp_path):
    guide = (ROOT / "docs" / "vector_index.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=120, check=False,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[('n1', 0.6")
