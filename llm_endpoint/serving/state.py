"""What there is to see of a served model."""

from dataclasses import dataclass
from typing import Literal

from llm_endpoint.generation.protocol import GeneratorInfo
from llm_endpoint.serving.replica import Replica, State


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """idle_s: without a request, 0 while it works on one. pid: of the engine's process, if ours."""

    number: int
    state: State
    in_flight: int
    idle_s: float
    pid: int | None


@dataclass(frozen=True, slots=True)
class ModelState:
    """waiting: requests in the queue. is_broken: its circuit is open."""

    name: str
    info: GeneratorInfo
    replicas: tuple[ReplicaState, ...]
    waiting: int
    is_broken: bool

    @property
    def state(self) -> Literal["failed"] | State:
        """Of the model: that of its liveliest replica."""
        if self.is_broken:
            return "failed"
        states = {replica.state for replica in self.replicas}
        order: tuple[State, ...] = ("ready", "starting", "sleeping", "draining")
        return next((state for state in order if state in states), "stopped")


def state_of(replica: Replica, now: float) -> ReplicaState:
    """What a replica is at; now: on the clock of its `idle_since`."""
    idle_s = 0.0 if replica.in_flight else max(0.0, now - replica.idle_since)
    pid = getattr(replica.engine, "pid", None)
    return ReplicaState(replica.number, replica.state, replica.in_flight, idle_s, pid)
