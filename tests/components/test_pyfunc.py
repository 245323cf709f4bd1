"""MLflow models behind `headrace serve` against `mlflow models serve` of the same folders.

Needs HEADRACE_MLFLOW_PYTHON, the interpreter of an environment with MLflow; `make test-components`
makes it.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
WRITER = Path(__file__).with_name("pyfunc_models.py")
JSON, CSV = "application/json", "text/csv"
SETTINGS = """
state_dir: state
pyfunc_folders: [models]
models:
  smollm2: {{task: generation, engine: llama.cpp, weights: smollm2-135m-instruct-q4_1}}
  adder: {{task: pyfunc, engine: pyfunc, path: models/adder, python: {python}}}
  chain: {{task: pyfunc, engine: pyfunc, path: models/chain, python: {python}}}
  moody: {{task: pyfunc, engine: pyfunc, path: models/moody, python: {python}, timeout_s: 3,
          environment: {{MOODY_KEY: "of headrace.yaml"}}}}
indexes: {{}}
chains: {{}}
principal: {{tenant: t, groups: [g]}}
gateway: {{port: {port}}}
"""
ROWS = [{"a": 1, "b": 2}, {"a": 0.5, "b": -4}]
SPLIT = {"columns": ["a", "b"], "data": [[1, 2], [0.5, -4]]}


def python():
    found = os.environ.get("HEADRACE_MLFLOW_PYTHON")
    if not found:
        pytest.fail("HEADRACE_MLFLOW_PYTHON is not set; run `make test-components`")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(client, path, process, log):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if client.get(path).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{path} is not 200: {log.read_text()}")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pyfunc")
    (folder / "models").mkdir()
    subprocess.run([python(), "-I", WRITER, folder / "models"], check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def served(workspace, weights_dir):
    """A client of `headrace serve`, and its process."""
    port = free_port()
    (workspace / "headrace.yaml").write_text(SETTINGS.format(python=python(), port=port))
    environment = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
    environment |= {"HEADRACE_WEIGHTS_DIR": str(weights_dir), "PYTHONPATH": str(ROOT)}
    log = workspace / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "serve"],
            cwd=workspace, env=environment, stdout=out, stderr=out,
        )  # fmt: skip
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            wait_for(client, "/readyz", process, log)
            yield client, process
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def ours(served):
    return served[0]


@pytest.fixture(scope="module")
def mlflows(workspace):
    """A client of what `mlflow models serve --env-manager local` runs, over the adder."""
    port = free_port()
    log = workspace / "mlflow.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [python(), "-I", "-m", "mlflow", "models", "serve", "--env-manager", "local",
             "--model-uri", workspace / "models" / "adder", "--port", str(port)],
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true",
                 "PATH": f"{Path(python()).parent}:{os.environ['PATH']}"},
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            wait_for(client, "/ping", process, log)
            yield client
        finally:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
            process.wait(30)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, {"dataframe_split": SPLIT}),
        (JSON, {"dataframe_records": ROWS}),
        (JSON, {"dataframe_records": ROWS, "params": {"factor": 10}}),
        (JSON, {"instances": ROWS}),
        (JSON, {"inputs": {"a": [1, 0.5], "b": [2, -4]}}),
        (f"{JSON}; charset=utf-8", {"dataframe_records": ROWS}),
        (CSV, "a,b\n1,2\n0.5,-4\n"),
        (CSV, "a,c\n1,2\n"),
        (JSON, {"dataframe_records": [{"a": 1}]}),
        (JSON, {"dataframe_records": [{"a": "one", "b": 2}]}),
        (JSON, {"dataframe_records": ROWS, "inputs": [1]}),
        (JSON, {"dataframe_records": ROWS, "params": {"factor": "ten"}}),
        (JSON, {"rows": ROWS}),
        (JSON, {"messages": [{"role": "user", "content": "a"}]}),
        (JSON, {"prompt": "a"}),
        (JSON, [1, 2]),
        (JSON, "{"),
        (JSON, ""),
        ("text/plain", "a"),
        ("application/json; charset=latin-1", "{}"),
        (None, "{}"),
    ],
)
def test_every_answer_is_that_of_mlflows_own_server(ours, mlflows, content_type, body):
    content = body if isinstance(body, str) else json.dumps(body)
    answers = []
    for client, path in ((ours, "/models/adder/invocations"), (mlflows, "/invocations")):
        request = client.build_request("POST", path, content=content.encode())
        if content_type is not None:
            request.headers["content-type"] = content_type
        answers.append(client.send(request))
    mine, theirs = answers
    assert mine.status_code == theirs.status_code
    assert mine.headers["content-type"] == theirs.headers["content-type"]
    if mine.status_code == 200:
        assert mine.content == theirs.content
    else:
        assert told(mine) == told(theirs)


def told(response):
    """The words of an error, sorted: MLflow lists sets, whose order differs from run to run, and a
    stack trace has lines of whichever server it was made in."""
    if response.headers["content-type"] != JSON:
        return response.content
    form = response.json()
    form.pop("stack_trace", None)
    return {key: sorted(re.findall(r"\w+", value)) for key, value in form.items()}


def test_the_first_model_is_at_the_root_too(ours, mlflows):
    body = {"dataframe_split": SPLIT}
    made = ours.post("/invocations", json=body)
    assert made.json() == {"predictions": [{"sum": 3.0}, {"sum": -3.5}]}
    for path in ("/version", "/ping", "/health"):
        mine, theirs = ours.get(path), mlflows.get(path)
        assert (mine.status_code, mine.content) == (theirs.status_code, theirs.content)
    assert ours.get("/models/chain/ping").status_code == 200


def test_a_chain_calls_back_to_the_server_that_serves_it(ours):
    messages = [{"role": "user", "content": "Say hello."}]
    made = ours.post("/models/chain/invocations", json={"messages": messages})
    assert made.status_code == 200, made.text
    assert made.json()["answer"]


def test_what_goes_wrong_is_said_as_mlflow_says_it(ours, served):
    unknown = ours.post("/models/none/invocations", json={})
    assert unknown.status_code == 404
    assert unknown.json() == {
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": "unknown MLflow model 'none'; this server has: adder, chain, moody",
    }

    def ask(word):
        return ours.post("/models/moody/invocations", json={"inputs": [word]})

    fine = ask("fine")
    assert fine.json()["predictions"]["key"] == "of headrace.yaml"
    raised = ask("raise")
    assert (raised.status_code, raised.json()["error_code"]) == (400, "BAD_REQUEST")
    late = ask("wait")
    assert late.status_code == 504
    died = ask("die")
    assert (died.status_code, died.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    # The next request waits for the model that is started again.
    deadline = time.monotonic() + 60
    while (again := ask("fine")).status_code == 503 and time.monotonic() < deadline:
        pass
    assert again.status_code == 200


def test_a_child_refuses_whoever_has_no_key(served):
    _, process = served
    ports = [
        connection.laddr.port
        for child in psutil.Process(process.pid).children(recursive=True)
        if "headrace_scoring:app" in child.cmdline()
        for connection in child.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(ports) == 3
    for port in ports:
        answer = httpx2.post(f"http://127.0.0.1:{port}/invocations", json={"inputs": [1]})
        assert answer.status_code == 401
