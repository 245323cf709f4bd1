"""What this machine gives this process: cores and memory, a container's bounds counted."""

import os
from pathlib import Path

from llm_endpoint.serving.planner import Device

_CGROUP = Path("/sys/fs/cgroup")


def this_cpu() -> Device:
    """The CPU of this process."""
    return Device("cpu", _memory_bytes(), _cores())


def _memory_bytes() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    bound = _first_word(_CGROUP / "memory.max")
    return min(physical, int(bound)) if bound.isdigit() else physical


def _cores() -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, _, period = _text(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        count = min(count or 1, max(1, int(quota) // int(period)))
    return count or 1


def _first_word(file: Path) -> str:
    return _text(file).split(" ")[0]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
