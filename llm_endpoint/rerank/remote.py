"""Scores from any server with the /rerank that Jina, Cohere and vLLM share."""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from llm_endpoint.connection import EngineConnection, decode_object
from llm_endpoint.errors import EngineAnswerInvalid, EngineTimeout
from llm_endpoint.rerank.protocol import RerankerInfo
from llm_endpoint.text import check_texts

_LARGEST = float(np.finfo(np.float32).max)


class RemoteReranker:
    """A client of one served model. Its scale is the server's: 0..1 with most, some send logits.

    One event loop at a time; connections are per loop.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        max_connections: int = 64,
    ) -> None:
        """Requests go to `<base_url>/rerank`. `timeout_s` bounds one call, start to end."""
        self._connection = EngineConnection(
            base_url, model, api_key=api_key, max_connections=max_connections
        )
        self._info = RerankerInfo(model, "remote", None)
        self._timeout_s = timeout_s

    @property
    def info(self) -> RerankerInfo:
        return self._info

    async def rerank(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts([question])
        check_texts(texts)
        if not texts:
            # Servers refuse an empty list of documents.
            return np.empty(0, dtype=np.float32)
        model = self._info.model
        body = {"model": model, "query": question, "documents": list(texts), "top_n": len(texts)}
        url = f"{self._connection.base_url}/rerank"
        try:
            answer = await self._connection.post(url, orjson.dumps(body), self._timeout_s)
        except TimeoutError as exc:
            raise EngineTimeout(model, self._timeout_s) from exc
        return _decode_scores(decode_object(answer, model), len(texts), model)

    async def close(self) -> None:
        await self._connection.close()


def _decode_scores(body: Mapping[str, object], count: int, model: str) -> NDArray[np.float32]:
    """The scores in the order of the documents; servers send the best first."""
    results = body.get("results")
    if not isinstance(results, list):
        raise EngineAnswerInvalid(model, "/rerank sent no list of results")
    scores: dict[int, float] = {}
    for result in results:
        index, score = _decode_result(result, count, model)
        if index in scores:
            raise EngineAnswerInvalid(model, f"/rerank scored document {index} twice")
        scores[index] = score
    missing = [index for index in range(count) if index not in scores]
    if missing:
        raise EngineAnswerInvalid(
            model, f"/rerank left out {len(missing)} of {count} documents, first {missing[0]}"
        )
    return np.array([scores[index] for index in range(count)], dtype=np.float32)


def _decode_result(result: object, count: int, model: str) -> tuple[int, float]:
    fields = result if isinstance(result, dict) else {}
    index, score = fields.get("index"), fields.get("relevance_score")
    # A bool is an int to isinstance, and never what either field means.
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise EngineAnswerInvalid(model, f"/rerank sent index {index!r} for {count} documents")
    if not isinstance(score, int | float) or isinstance(score, bool) or abs(score) > _LARGEST:
        raise EngineAnswerInvalid(model, f"/rerank sent relevance_score {score!r}")
    return index, float(score)
