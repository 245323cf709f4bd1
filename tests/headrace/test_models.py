"""Models of a real server that come when asked and go when idle, and what commands show."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import yaml

MODEL = "smollm2"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}


@pytest.fixture(scope="module")
def world(synced, tmp_path_factory, weights_dir, serve):
    """A server whose model starts on demand and stops after five seconds, behind an endpoint."""
    folder = tmp_path_factory.mktemp("models")
    workspace = type(synced)(folder / "workspace", weights_dir)

    shutil.copytree(synced.folder, workspace.folder)
    file = workspace.folder / "headrace.yaml"
    form = yaml.safe_load(file.read_text())
    form["models"][MODEL]["serving"] = {"min_replicas": 0, "idle_s": 5}
    form["models"]["gone"] = {
        "task": "generation", "engine": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "x",
    }  # fmt: skip
    form["endpoints"] = {"writer": {"shares": {"gone": 100}, "fallbacks": [MODEL]}}
    form["chains"]["docs"]["model"] = "writer"
    file.write_text(yaml.safe_dump(form))
    return serve(workspace)


def state(world):
    (model,) = [m for m in world.http.get("/models").json()["models"] if m["name"] == MODEL]
    return model


def children(world):
    return psutil.Process(world.process.pid).children()


def until(is_so):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_first_requests_side_by_side_share_one_start_and_an_idle_model_is_gone(world):
    assert world.http.get("/readyz").status_code == 200
    until(lambda: state(world)["state"] == "stopped")
    assert children(world) == []
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(
            lambda _: world.http.post("/v1/chat/completions", json=CHAT), range(8)
        ))  # fmt: skip
    assert [answer.status_code for answer in answers] == [200] * 8
    (replica,) = state(world)["replicas"]
    (child,) = children(world)
    assert (replica["number"], replica["pid"]) == (1, child.pid)
    # All memory of the engine goes back: its process ends.
    until(lambda: not children(world))
    assert not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE
    assert state(world)["state"] == "stopped"


def test_a_model_is_loaded_and_unloaded_by_hand(world):
    run = world.workspace.run
    port = {"HEADRACE_GATEWAY__PORT": str(world.port)}
    loaded = json.loads(run("models", "load", MODEL, "--json", **port).stdout)
    assert loaded["state"] in ("starting", "ready")
    shown = run("models", "ps", **port).stdout
    assert f"{MODEL}  " in shown
    assert "minilm" in shown
    assert "endpoint writer" in shown
    unloaded = run("models", "unload", MODEL, **port)
    assert (unloaded.returncode, "stopped" in unloaded.stdout) == (0, True)
    until(lambda: children(world) == [])
    unknown = run("models", "load", "minilm", **port)
    assert unknown.returncode == 1
    assert "there is no generation model 'minilm'" in unknown.stderr


def test_a_chain_over_an_endpoint_is_answered_by_who_can(world):
    answer = world.ask()
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "writer"
    (endpoint,) = world.http.get("/models").json()["endpoints"]
    assert endpoint["requests"]["gone"] == endpoint["requests"][MODEL] == endpoint["fallen_back"]
    chat = world.http.post("/v1/chat/completions", json={**CHAT, "model": "writer"})
    assert chat.status_code == 200, chat.text


def test_without_a_server_the_command_says_where_it_looked(world):
    missing = world.workspace.run("models", "ps", HEADRACE_GATEWAY__PORT="9")
    assert missing.returncode == 1
    assert "no server answers at http://127.0.0.1:9" in missing.stderr


def test_the_plan_is_shown_and_an_impossible_one_keeps_the_server_from_starting(world):
    run = world.workspace.run
    plan = json.loads(run("models", "plan", "--json").stdout)
    assert {one["name"] for one in plan["placements"]} == {MODEL, "minilm"}
    assert "cache" in run("models", "plan").stdout
    for command in (("models", "plan"), ("serve",)):
        refused = run(*command, HEADRACE_DEVICES__MEMORY_MB="500")
        assert refused.returncode == 1
        assert "cpu has 425 MB for models (of 500)" in refused.stderr
