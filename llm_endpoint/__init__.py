"""Text in, vectors or tokens out: engines, the GPUs they share, their life cycle."""

from llm_endpoint.catalogue import CATALOGUE, ModelCard, find_card
from llm_endpoint.download import Progress
from llm_endpoint.errors import LlmEndpointError
from llm_endpoint.weights import ModelSource, pull, resolve, verify

__all__ = [
    "CATALOGUE",
    "LlmEndpointError",
    "ModelCard",
    "ModelSource",
    "Progress",
    "find_card",
    "pull",
    "resolve",
    "verify",
]
