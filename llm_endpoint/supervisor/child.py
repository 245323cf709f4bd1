"""How a supervised child is started: its command, its environment, its secrets."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# By file and isolated (-I): the child's environment may point Python at another installation.
_TETHER = (sys.executable, "-I", str(Path(__file__).with_name("tether.py")))


@dataclass(frozen=True, slots=True)
class Launch:
    """What one start of the child is given. A restart gets fresh values of all of them."""

    port: int
    """A port on 127.0.0.1 that was free a moment ago."""
    address_file: Path
    """Where a child that picks its own port writes `http://127.0.0.1:<port>`, atomically."""
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child that serves HTTP on loopback."""

    name: str
    argv: Callable[[Launch], Sequence[str]]
    log_file: Path
    api_key_variable: str
    """The environment variable that carries Launch.api_key: argv is visible to every user."""
    writes_address_file: bool = False
    """False: the child listens on Launch.port."""
    environment: Mapping[str, str] = field(default_factory=dict)
    health_path: str = "/health"
    start_timeout_s: float = 120.0
    hang_timeout_s: float = 30.0
    """Unhealthy for this long after being ready means killed and restarted."""
    stop_grace_s: float = 5.0
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0


def new_launch(folder: Path) -> Launch:
    address_file = folder / f"address-{secrets.token_hex(8)}"
    return Launch(_free_port(), address_file, secrets.token_urlsafe(32))


def spawn(spec: ChildSpec, launch: Launch) -> subprocess.Popen[bytes]:
    """Start the child, tied to the calling thread: on Linux it dies when that thread ends."""
    spec.log_file.parent.mkdir(parents=True, exist_ok=True)
    with spec.log_file.open("ab") as log:
        return subprocess.Popen(
            [*_TETHER, str(os.getpid()), *spec.argv(launch)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **spec.environment, spec.api_key_variable: launch.api_key},
            # Ctrl-C in a terminal reaches the server only, which then stops its engines in order;
            # and a child's own children can be signalled with it.
            start_new_session=True,
        )


def log_tail(log_file: Path, size_bytes: int = 600) -> str:
    """The last lines of a log, "" if there is none."""
    try:
        with log_file.open("rb") as log:
            log.seek(max(0, log_file.stat().st_size - size_bytes))
            return log.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
