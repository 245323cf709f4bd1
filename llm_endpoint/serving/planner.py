"""Who runs where with which share: devices and needs in, placements out, or the numbers why not.

Nothing here measures anything: bytes come from settings, files and the machine. A model counts
with all replicas that it may have, so what is planned fits however busy everybody is.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_endpoint.errors import ImpossiblePlan

# Of a card's memory so much is left to its driver and to fragmentation.
_GPU_USABLE = 0.95
# And of a machine's to everything that is not a model: this server, the file cache, the system.
_CPU_USABLE = 0.85
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Device:
    """`cpu`, or `gpu0` and so on. cores: of the CPU, 0 for a card."""

    name: str
    memory_bytes: int
    cores: int = 0

    @property
    def usable_bytes(self) -> int:
        return int(self.memory_bytes * (_CPU_USABLE if self.name == "cpu" else _GPU_USABLE))


@dataclass(frozen=True, slots=True)
class Need:
    """What one thing on a device takes.

    what: `model` or `index`. device: by name; None: the card with the most room, for what only
    runs on one. parts: bytes by what they are for (weights, cache, ...), of one replica. threads:
    wanted, of one replica.
    """

    name: str
    what: str
    device: str | None
    parts: Mapping[str, int]
    threads: int = 0
    replicas: int = 1

    @property
    def memory_bytes(self) -> int:
        """Of all replicas."""
        return sum(self.parts.values()) * self.replicas


@dataclass(frozen=True, slots=True)
class Placement:
    """A need on its device. share: of the device's memory, all replicas together. threads: of one
    replica, never more than there are cores."""

    need: Need
    device: str
    share: float
    threads: int


@dataclass(frozen=True, slots=True)
class Plan:
    """free: bytes that no placement has, by device, of what is usable there."""

    devices: tuple[Device, ...]
    placements: tuple[Placement, ...]
    free: Mapping[str, int]

    def of(self, name: str) -> Placement | None:
        """Where the model of that name runs; None for one that runs elsewhere."""
        placed = (p for p in self.placements if (p.need.what, p.need.name) == ("model", name))
        return next(placed, None)


def plan(devices: Sequence[Device], needs: Sequence[Need]) -> Plan:
    """Every need placed: those that name a device there, then the largest first where there is
    most room. Raises ImpossiblePlan with what is needed and what there is."""
    by_name = {device.name: device for device in devices}
    free = {device.name: device.usable_bytes for device in devices}
    placed: dict[int, str] = {}
    order = sorted(
        range(len(needs)), key=lambda at: (needs[at].device is None, -needs[at].memory_bytes)
    )
    for at in order:
        need = needs[at]
        device = need.device or _roomiest(free)
        if device not in by_name:
            raise ImpossiblePlan(_nowhere(need, by_name))
        placed[at] = device
        free[device] -= need.memory_bytes
    if short := {name: -left for name, left in free.items() if left < 0}:
        raise ImpossiblePlan(_shortage(short, by_name, needs, placed))
    placements = tuple(_placement(need, by_name[placed[at]]) for at, need in enumerate(needs))
    return Plan(tuple(devices), placements, free)


def _placement(need: Need, device: Device) -> Placement:
    threads = min(need.threads, device.cores) if device.cores else need.threads
    return Placement(need, device.name, need.memory_bytes / device.memory_bytes, threads)


def _roomiest(free: Mapping[str, int]) -> str | None:
    cards = [name for name in free if name != "cpu"]
    return max(cards, key=lambda name: free[name], default=None)


def _nowhere(need: Need, devices: Mapping[str, Device]) -> str:
    wanted = need.device or "a card"
    return (
        f"{need.what} {need.name} needs {wanted}, and the devices are {', '.join(devices)}; "
        f"name it under `devices:` or take the {need.what} out"
    )


def _shortage(
    short: Mapping[str, int],
    devices: Mapping[str, Device],
    needs: Sequence[Need],
    placed: Mapping[int, str],
) -> str:
    """One sentence a device, with everybody who is to be there."""
    on: defaultdict[str, list[Need]] = defaultdict(list)
    for at, device in placed.items():
        on[device].append(needs[at])
    lines = []
    for name, missing in short.items():
        wanted = sum(need.memory_bytes for need in on[name])
        who = ", ".join(
            f"{need.name} {need.memory_bytes // _MB:,} MB" + _times(need.replicas)
            for need in sorted(on[name], key=lambda need: -need.memory_bytes)
        )
        lines.append(
            f"{name} has {devices[name].usable_bytes // _MB:,} MB for models "
            f"(of {devices[name].memory_bytes // _MB:,}), and {wanted // _MB:,} MB are needed, "
            f"{missing // _MB + 1:,} MB too many: {who}"
        )
    return "; ".join(lines) + "; use fewer replicas, a smaller context or fewer models"


def _times(replicas: int) -> str:
    return f" ({replicas} replicas)" if replicas > 1 else ""
