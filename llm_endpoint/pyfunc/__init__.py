"""MLflow models in their folders, each served by MLflow's own scoring server in a child process."""

from llm_endpoint.pyfunc.folders import check_model_folder
from llm_endpoint.pyfunc.scorer import PyfuncScorer, Scored

__all__ = ["PyfuncScorer", "Scored", "check_model_folder"]
