"""What /v1 serves, by the name that a client sends as `model`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.openai.errors import ModelNotFound
from llm_endpoint.embedding.protocol import TextEmbeddings
from llm_endpoint.generation import OpenAIEngine
from llm_endpoint.rerank import Reranker

_T = TypeVar("_T")
_OWNER = "headrace"


@dataclass(frozen=True, slots=True)
class ServedModels:
    """Engines by the names of headrace.yaml; chains are among the generators as `rag/<chain>`.

    timeout_s: of one request, first byte to last. created: Unix time of the server's start.
    """

    generators: Mapping[str, OpenAIEngine] = field(default_factory=dict)
    embedders: Mapping[str, TextEmbeddings] = field(default_factory=dict)
    rerankers: Mapping[str, Reranker] = field(default_factory=dict)
    timeout_s: float = 300.0
    created: int = 0

    def generator(self, name: str) -> OpenAIEngine:
        """What writes text under that name. Raises ModelNotFound."""
        return self._named(self.generators, name, "generation")

    def embedder(self, name: str) -> TextEmbeddings:
        """What makes vectors under that name. Raises ModelNotFound."""
        return self._named(self.embedders, name, "embedding")

    def reranker(self, name: str) -> Reranker:
        """What scores texts under that name. Raises ModelNotFound."""
        return self._named(self.rerankers, name, "rerank")

    def tasks(self) -> Mapping[str, str]:
        """Every name, with what it is for."""
        return {
            **dict.fromkeys(self.generators, "generation"),
            **dict.fromkeys(self.embedders, "embedding"),
            **dict.fromkeys(self.rerankers, "rerank"),
        }

    def form(self, name: str) -> dict[str, object]:
        """A model as OpenAI lists it, with its task and context beside. Raises ModelNotFound."""
        tasks = self.tasks()
        if name not in tasks:
            raise ModelNotFound(name, tasks)
        form: dict[str, object] = {
            "id": name, "object": "model", "created": self.created, "owned_by": _OWNER,
            "task": tasks[name],
        }  # fmt: skip
        if name in self.generators:
            form["max_model_len"] = self.generators[name].info.context_tokens
        elif name in self.embedders:
            info = self.embedders[name].info
            form |= {"max_model_len": info.max_tokens, "dimensions": info.dim}
        return form

    def _named(self, of_task: Mapping[str, _T], name: str, task: str) -> _T:
        if name in of_task:
            return of_task[name]
        raise ModelNotFound(name, self.tasks(), task)
