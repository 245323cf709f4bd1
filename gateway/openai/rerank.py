"""/v1/rerank and /rerank, in the shape that Jina, Cohere and vLLM share."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import orjson
from pydantic import Field

from gateway.openai.errors import InvalidRequest
from gateway.openai.forms import Count, Form, read, refuse_unknown
from gateway.openai.models import ServedModels
from llm_endpoint.errors import EngineTimeout

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
    refuse_unknown(form)
    texts = [_text(document, index) for index, document in enumerate(form.documents)]
    try:
        async with asyncio.timeout(models.timeout_s):
            scores = await reranker.rerank(form.query, texts)
    except TimeoutError as exc:
        raise EngineTimeout(form.model, models.timeout_s) from exc
    order = np.argsort(-scores, kind="stable")[: form.top_n or len(texts)]
    results: list[dict[str, object]] = [
        {"index": int(index), "relevance_score": float(scores[index])} for index in order
    ]
    if form.return_documents:
        for result, index in zip(results, order, strict=True):
            result["document"] = {"text": texts[index]}
    head = {"id": f"rerank-{uuid.uuid4().hex}", "object": "list", "model": form.model}
    return orjson.dumps({**head, "results": results})


def _text(document: str | dict[str, object], index: int) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if isinstance(text, str):
        return text
    raise InvalidRequest(f"documents.{index}", "must be a text or an object with a `text`")
