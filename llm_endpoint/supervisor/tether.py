"""`python -I tether.py <parent pid> <command…>`: the command, never orphaned.

On Linux the kernel kills the command (SIGKILL) when the thread that started this process ends,
and exec keeps that promise, so this module is gone once the command runs. Elsewhere it stays
as a thin parent that polls its own parent's pid.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.5


def main(arguments: Sequence[str]) -> int:
    parent_pid, command = int(arguments[0]), list(arguments[1:])
    if sys.platform == "linux":
        _die_with_parent()
        # The parent may have ended before prctl: then no signal will ever come.
        if os.getppid() != parent_pid:
            return 1
        os.execvp(command[0], command)
    return _run_and_poll(parent_pid, command)


def _die_with_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _run_and_poll(parent_pid: int, command: list[str]) -> int:
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while (code := child.poll()) is None:
        if os.getppid() != parent_pid:
            child.kill()
        time.sleep(_POLL_S)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
