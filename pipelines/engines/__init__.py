"""Where the chunk+embed step of a sync runs: in this process, or on a Ray cluster."""

from pipelines.engines.local import LocalEngine
from pipelines.engines.protocol import Engine, Known

__all__ = ["Engine", "Known", "LocalEngine"]
