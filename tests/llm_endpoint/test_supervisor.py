"""Real processes: a few lines of HTTP server that die, hang and refuse to die."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from llm_endpoint.errors import EngineUnavailable
from llm_endpoint.supervisor import ChildSpec, Supervisor, tether

SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/exit":
            os._exit(0)
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["KEY"].encode())
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

Start = Callable[..., Supervisor]


def spec(folder: Path, *options: str) -> ChildSpec:
    return ChildSpec(
        name="fake",
        argv=lambda launch: [sys.executable, "-c", SERVER, str(launch.port), *options],
        log_file=folder / "engine.log",
        api_key_variable="KEY",
    )


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Supervisor] = []

    def start_one(child: ChildSpec) -> Supervisor:
        running.append(Supervisor(child))
        running[-1].start()
        return running[-1]

    yield start_one
    for supervisor in running:
        supervisor.stop()


def pid_of(supervisor: Supervisor) -> int:
    assert supervisor.pid is not None
    return supervisor.pid


def wait_for_restart(supervisor: Supervisor, restarts: int) -> None:
    deadline = time.monotonic() + 10
    while supervisor.restarts < restarts:
        assert time.monotonic() < deadline, "never restarted"
        time.sleep(0.01)
    supervisor.wait_ready(10)


def test_it_is_ready_when_it_answers_and_writes_its_log(start: Start, tmp_path: Path) -> None:
    supervisor = start(spec(tmp_path))
    endpoint = supervisor.wait_ready(10)
    assert endpoint.address.startswith("http://127.0.0.1:")
    assert b"listening" in (tmp_path / "engine.log").read_bytes()


def test_start_returns_at_once(start: Start, tmp_path: Path) -> None:
    started = time.monotonic()
    start(spec(tmp_path))
    assert time.monotonic() - started < 0.1


def test_a_killed_child_is_replaced_with_another_key(start: Start, tmp_path: Path) -> None:
    supervisor = start(spec(tmp_path))
    first = supervisor.wait_ready(10)
    os.kill(pid_of(supervisor), signal.SIGKILL)
    wait_for_restart(supervisor, 1)
    assert supervisor.endpoint is not None
    assert supervisor.endpoint.api_key != first.api_key


def test_an_exit_with_code_0_is_a_death_like_any_other(start: Start, tmp_path: Path) -> None:
    supervisor = start(replace(spec(tmp_path), health_path="/exit"))
    with pytest.raises(EngineUnavailable, match="fake was not ready"):
        supervisor.wait_ready(1.0)
    assert supervisor.restarts >= 1


def test_a_hung_child_is_killed_and_replaced(start: Start, tmp_path: Path) -> None:
    supervisor = start(replace(spec(tmp_path), hang_timeout_s=0.5, stop_grace_s=0.2))
    supervisor.wait_ready(10)
    os.kill(pid_of(supervisor), signal.SIGSTOP)
    wait_for_restart(supervisor, 1)


def test_a_child_that_never_answers_is_given_up_and_tried_again(
    start: Start, tmp_path: Path
) -> None:
    silent = replace(
        spec(tmp_path),
        argv=lambda launch: [sys.executable, "-c", "import time; time.sleep(60)"],
        start_timeout_s=0.3,
    )
    supervisor = start(silent)
    with pytest.raises(EngineUnavailable):
        supervisor.wait_ready(1.5)
    assert supervisor.restarts >= 1


def test_restarts_slow_down(start: Start, tmp_path: Path) -> None:
    broken = replace(spec(tmp_path), argv=lambda launch: [sys.executable, "-c", "raise SystemExit"])
    supervisor = start(replace(broken, backoff_first_s=0.2))
    time.sleep(2.0)
    # 0.2 + 0.4 + 0.8 + 1.6 s between starts: without back-off there would be about ten.
    assert 1 <= supervisor.restarts <= 4


def test_a_command_that_does_not_exist_is_an_error_with_the_reason(
    start: Start, tmp_path: Path
) -> None:
    supervisor = start(replace(spec(tmp_path), argv=lambda launch: ["/nonexistent/engine"]))
    with pytest.raises(EngineUnavailable, match="No such file"):
        supervisor.wait_ready(1.0)


def test_stop_asks_first_and_then_insists(start: Start, tmp_path: Path) -> None:
    supervisor = start(replace(spec(tmp_path, "stubborn"), stop_grace_s=0.3))
    supervisor.wait_ready(10)
    child = psutil.Process(pid_of(supervisor))
    started = time.monotonic()
    supervisor.stop()
    assert 0.3 <= time.monotonic() - started < 3.0
    assert not child.is_running()
    with pytest.raises(EngineUnavailable, match="stopped"):
        supervisor.wait_ready(5)


def test_stop_wakes_whoever_waits(start: Start, tmp_path: Path) -> None:
    supervisor = start(
        replace(
            spec(tmp_path),
            argv=lambda launch: [sys.executable, "-c", "import time; time.sleep(60)"],
        )
    )
    threading.Timer(0.3, supervisor.stop).start()
    started = time.monotonic()
    with pytest.raises(EngineUnavailable, match="stopped"):
        supervisor.wait_ready(30)
    assert time.monotonic() - started < 5


def test_a_doubted_child_that_still_answers_is_ready_again(start: Start, tmp_path: Path) -> None:
    supervisor = start(spec(tmp_path))
    endpoint = supervisor.wait_ready(10)
    supervisor.doubt(endpoint)
    assert supervisor.endpoint is None
    assert supervisor.wait_ready(5).address == endpoint.address
    assert supervisor.restarts == 0


def test_the_starter_may_be_a_short_lived_thread(start: Start, tmp_path: Path) -> None:
    supervisors: list[Supervisor] = []
    thread = threading.Thread(target=lambda: supervisors.append(start(spec(tmp_path))))
    thread.start()
    thread.join()
    supervisors[0].wait_ready(10)
    time.sleep(0.3)
    assert supervisors[0].restarts == 0
    assert psutil.pid_exists(pid_of(supervisors[0]))


@pytest.mark.parametrize("end", ["kill -9", "return from main"])
def test_the_child_never_outlives_its_owner(tmp_path: Path, end: str) -> None:
    program = f"""
import sys, time
from pathlib import Path
from llm_endpoint.supervisor import ChildSpec, Supervisor
spec = ChildSpec("fake", lambda launch: [sys.executable, "-c", {SERVER!r}, str(launch.port)],
    Path({str(tmp_path / "log")!r}), "KEY")
supervisor = Supervisor(spec); supervisor.start(); supervisor.wait_ready(20)
print(supervisor.pid, flush=True); sys.stdin.readline()
"""
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as owner:
        assert owner.stdout is not None
        child = psutil.Process(int(owner.stdout.readline()))
        if end == "kill -9":
            owner.kill()
    assert psutil.wait_procs([child], timeout=2)[1] == []


def test_a_parent_that_is_gone_before_the_tether_holds_means_no_child() -> None:
    command = [sys.executable, "-I", tether.__file__, "1", "echo", "ran"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
