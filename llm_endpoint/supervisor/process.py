"""The supervisor: start, watch, restart with back-off, stop."""

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from llm_endpoint.errors import EngineUnavailable
from llm_endpoint.supervisor.child import ChildSpec, Launch, log_tail, new_launch, spawn
from llm_endpoint.supervisor.health import is_healthy

_log = logging.getLogger(__name__)

# Popen.poll is one waitpid: 20 of them a second cost nothing and notice a death within 50 ms.
_TICK_S = 0.05
_PROBE_EVERY_S = 1.0
# Up for this long means that the next death starts again at the first back-off step.
_STABLE_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a ready child listens. `start` counts launches, so two endpoints can be told apart."""

    address: str
    api_key: str = field(repr=False)
    start: int


class Supervisor:
    """Keeps one child running. All public methods may be called from any thread."""

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = spec
        self._changed = threading.Condition()
        self._endpoint: Endpoint | None = None
        self._pid: int | None = None
        self._starts = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """None while the child is not ready."""
        return self._endpoint

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is no child."""
        return self._pid

    @property
    def restarts(self) -> int:
        return max(0, self._starts - 1)

    @property
    def is_running(self) -> bool:
        """True between start() and stop(), whatever the child's state."""
        return self._thread is not None and not self._stopping.is_set()

    def start(self) -> None:
        """Return at once; the child comes up in the background. A second call does nothing."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._supervise, name=f"supervisor-{self._spec.name}", daemon=True
                )
                self._thread.start()

    def wait_ready(self, timeout_s: float) -> Endpoint:
        """The ready child's endpoint. Raises EngineUnavailable after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._endpoint or not self.is_running, timeout_s)
            if self._endpoint is None:
                raise self.unavailable(timeout_s)
            return self._endpoint

    def unavailable(self, waited_s: float) -> EngineUnavailable:
        """The error that says why there is no endpoint."""
        name = self._spec.name
        if not self.is_running:
            state = "has been stopped" if self._stopping.is_set() else "was never started"
            return EngineUnavailable(f"the engine of {name} {state}; call start() on a new one")
        tail = log_tail(self._spec.log_file)
        ending = f", which ends with:\n{tail}" if tail else ""
        return EngineUnavailable(
            f"the engine of {name} was not ready within {waited_s:.1f} s (start number "
            f"{self._starts}); see {self._spec.log_file}{ending}"
        )

    def doubt(self, endpoint: Endpoint) -> None:
        """Take `endpoint` out of use until a probe has succeeded: a request just broke on it."""
        with self._changed:
            if self._endpoint is endpoint:
                self._endpoint = None

    def stop(self) -> None:
        """Return when the child is gone: SIGTERM, and SIGKILL after the grace."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            self._changed.notify_all()

    def _supervise(self) -> None:
        # This thread spawns the child itself and outlives it: the kernel ties the child's life
        # to the thread that started it (see tether.py), not to the process.
        backoff_s = self._spec.backoff_first_s
        with tempfile.TemporaryDirectory(prefix="headrace-engine-") as folder:
            while not self._stopping.is_set():
                started = time.monotonic()
                self._run_once(Path(folder))
                if time.monotonic() - started > _STABLE_AFTER_S:
                    backoff_s = self._spec.backoff_first_s
                self._stopping.wait(backoff_s)
                backoff_s = min(backoff_s * 2, self._spec.backoff_max_s)

    def _run_once(self, folder: Path) -> None:
        """One life of the child, from spawn to reaped."""
        launch = new_launch(folder)
        self._starts += 1
        try:
            child = spawn(self._spec, launch)
        except OSError as exc:
            _log.error("engine_spawn_failed name=%s error=%s", self._spec.name, exc)
            return
        self._pid = child.pid
        _log.info(
            "engine_started name=%s pid=%d start=%d", self._spec.name, child.pid, self._starts
        )
        try:
            self._watch(child, launch)
        finally:
            with self._changed:
                self._endpoint = None
                self._pid = None
            _end(child, self._spec.stop_grace_s)
            _log.info("engine_ended name=%s code=%s", self._spec.name, child.returncode)

    def _watch(self, child: subprocess.Popen[bytes], launch: Launch) -> None:
        """Return when the child is dead, hung, too slow to start, or not wanted any more."""
        healthy_at = time.monotonic()
        patience_s = self._spec.start_timeout_s
        probe_at = 0.0
        while not self._stopping.wait(_TICK_S) and child.poll() is None:
            if self._endpoint is not None and time.monotonic() < probe_at:
                continue
            address = self._address(launch)
            if address and is_healthy(address, self._spec.health_path):
                healthy_at, patience_s = time.monotonic(), self._spec.hang_timeout_s
                self._announce(Endpoint(address, launch.api_key, self._starts))
            elif time.monotonic() - healthy_at > patience_s:
                _log.error("engine_hung name=%s pid=%d", self._spec.name, child.pid)
                return
            probe_at = time.monotonic() + _PROBE_EVERY_S

    def _address(self, launch: Launch) -> str | None:
        if not self._spec.writes_address_file:
            return f"http://127.0.0.1:{launch.port}"
        try:
            return launch.address_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def _announce(self, endpoint: Endpoint) -> None:
        with self._changed:
            if self._endpoint is None:
                self._endpoint = endpoint
                self._changed.notify_all()
                _log.info("engine_ready name=%s start=%d", self._spec.name, endpoint.start)


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Stop the child and everything in its session, and reap it."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    # Also when the child itself is gone: what it started may not be.
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    # Usually there is nobody left, which is what we want to know.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
