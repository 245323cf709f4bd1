"""/v1/rerank and /rerank, in the shape that Jina, Cohere and vLLM share."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import orjson
from pydantic import Field

from gateway.openai.errors import InvalidRequest
from gateway.openai.forms import Count, Form, read
from gateway.openai.models import ServedModels

MAX_DOCUMENTS = 1000


class RerankForm(Form):
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[
        list[str | dict[str, object]], Field(min_length=1, max_length=MAX_DOCUMENTS)
    ]
    top_n: Count | None = None
    return_documents: bool | None = None


async def rerank(models: ServedModels, body: Mapping[str, object]) -> bytes:
    """The answer, best document first. Raises InvalidRequest, ModelNotFound, EngineError."""
    form = read(RerankForm, body)
    reranker = models.reranker(form.model)
    texts = [_text(document, index) for index, document in enumerate(form.documents)]
    scores = await reranker.rerank(form.query, texts)
    order = np.argsort(-scores, kind="stable")[: form.top_n or len(texts)]
    results: list[dict[str, object]] = [
        {"index": int(index), "relevance_score": float(scores[index])} for index in order
    ]
    if form.return_documents:
        for result, index in zip(results, order, strict=True):
            result["document"] = {"text": texts[index]}
    return orjson.dumps({"model": form.model, "results": results})


def _text(document: str | dict[str, object], index: int) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if isinstance(text, str):
        return text
    raise InvalidRequest(f"documents.{index}", "must be a text or an object with a `text`")
