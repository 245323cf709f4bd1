"""How a model is served."""

from dataclasses import dataclass, field

from llm_endpoint.serving.breaker import BreakerLimits


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """min_replicas: 0 lets the model sleep, or stop, after `idle_s` without a request; None: never.
    slots: requests that one replica works on at once. queue: requests that may wait for a slot,
    and how long. scale_after_s: a request that has waited longer starts another replica. drain_s:
    what is under way may end by itself within that time when a replica is ended.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    slots: int = 64
    idle_s: float | None = None
    queue: int = 64
    queue_timeout_s: float = 60.0
    scale_after_s: float = 1.0
    drain_s: float = 30.0
    breaker: BreakerLimits = field(default_factory=BreakerLimits)
