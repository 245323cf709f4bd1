"""One child process kept alive and answering, and never left behind."""

from llm_endpoint.supervisor.child import ChildSpec, Launch
from llm_endpoint.supervisor.process import Endpoint, Supervisor

__all__ = ["ChildSpec", "Endpoint", "Launch", "Supervisor"]
