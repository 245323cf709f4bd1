"""One running copy of a model: its engine, what it is doing, and for how long it has been idle."""

from dataclasses import dataclass, field
from typing import Literal

from llm_endpoint.generation.protocol import LocalEngine, SleepingEngine, TextEngine

State = Literal["stopped", "starting", "ready", "sleeping", "draining"]


@dataclass(slots=True, eq=False)
class Replica:
    """number: of all replicas that the model has had. idle_since: on the model's clock."""

    number: int
    engine: TextEngine
    slots: int
    idle_since: float
    in_flight: int = 0
    is_draining: bool = False
    is_waking: bool = False
    is_resting: bool = False
    is_watched: bool = False
    prefixes: dict[int, None] = field(default_factory=dict)

    @property
    def state(self) -> State:
        if self.is_draining:
            return "draining"
        if self.is_resting or (isinstance(self.engine, SleepingEngine) and self.engine.is_asleep):
            return "sleeping"
        if isinstance(self.engine, LocalEngine) and not self.engine.is_ready():
            return "starting"
        return "ready"

    @property
    def free(self) -> int:
        """Requests that it can take at once."""
        return self.slots - self.in_flight if self.state == "ready" else 0


# Of those prefixes whose states the engine may still hold.
_REMEMBERED = 512
# A replica that knows the prefix saves its prompt's time; not when so many more are ahead there.
_MUCH_BUSIER = 4


def pick(replicas: list[Replica], prefix: str) -> Replica | None:
    """The free replica that should answer: one that has seen the prompt's beginning, unless it is
    much busier than the least busy; None where none is free."""
    free = [replica for replica in replicas if replica.free > 0]
    if not free:
        return None
    least = min(free, key=lambda replica: (replica.in_flight, replica.number))
    key = hash(prefix)
    known = [replica for replica in free if prefix and key in replica.prefixes]
    chosen = min(known, key=lambda replica: replica.in_flight, default=least)
    if chosen.in_flight - least.in_flight >= _MUCH_BUSIER:
        chosen = least
    if prefix:
        chosen.prefixes.pop(key, None)
        chosen.prefixes[key] = None
        if len(chosen.prefixes) > _REMEMBERED:
            chosen.prefixes.pop(next(iter(chosen.prefixes)))
    return chosen
