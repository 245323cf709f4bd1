"""A chain as a chat model: `rag/<chain>` answers the last message from an index, with sources."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import orjson
from pydantic import BaseModel, ConfigDict

from gateway.openai.errors import InvalidRequest, Unsupported
from gateway.openai.forms import read, refuse
from gateway.wire import QueryResponse
from llm_endpoint.generation import GeneratorInfo, Route
from llm_endpoint.generation.joining import join_events
from rag_chain.answer import Answer
from rag_chain.chain import Chain
from rag_chain.question import Question
from vector_index.filters import parse_filter
from vector_index.passages import Access

PREFIX = "rag/"
EXTRA = "headrace"
_UNSUPPORTED = {
    "tools": "a chain calls none",
    "response_format": "a chain answers in prose",
    "logprobs": "a chain has none",
    "logit_bias": "a chain has none",
    "stop": "a chain ends by itself",
    "seed": "a chain takes none",
}
# What has no effect may be said: some clients always send it.
_NEUTRAL = {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}


class RagOptions(BaseModel):
    """What `/query` takes beside the question, under `headrace` in the body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    k: int | None = None
    filter: dict[str, object] | None = None
    user: str | None = None


class RagModel:
    """An OpenAIEngine over a chain.

    The last message is the question; earlier ones are not read. max_tokens lowers the chain's own
    bound; without a temperature the answer is the one that /query gives.
    """

    def __init__(self, chain: Chain, name: str, access: Access, *, context_tokens: int) -> None:
        self._chain, self._access = chain, access
        self._info = GeneratorInfo(f"{PREFIX}{name}", "chain", context_tokens, None)

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    async def ask(self, route: Route, body: Mapping[str, object], *, timeout_s: float) -> bytes:
        async with aclosing(self.ask_stream(route, body, timeout_s=timeout_s)) as events:
            return orjson.dumps(join_events([orjson.loads(event) async for event in events]))

    async def ask_stream(
        self, route: Route, body: Mapping[str, object], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        """The chain has its own deadlines; timeout_s is not used."""
        if route != "chat/completions":
            raise Unsupported("model", f"{self._info.model} answers chat/completions only")
        question = self._question(body)
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion.chunk",
            "created": int(time.time()), "model": self._info.model,
        }  # fmt: skip
        async with aclosing(self._chain.stream(question)) as pieces:
            async for piece in pieces:
                yield orjson.dumps(head | _event(piece))

    def _question(self, body: Mapping[str, object]) -> Question:
        refuse(body, _UNSUPPORTED)
        for field, neutral in _NEUTRAL.items():
            if body.get(field, neutral) != neutral:
                raise Unsupported(field, f"is {body[field]}; a chain leaves it at {neutral}")
        given = body.get(EXTRA) or {}
        if not isinstance(given, dict):
            raise InvalidRequest(EXTRA, f"must be an object, got {given!r}")
        options = read(RagOptions, given)
        columns = self._chain.retriever.index.metadata_columns
        where = None if options.filter is None else parse_filter(options.filter, columns)
        most, temperature = body.get("max_tokens"), body.get("temperature", 0.0)
        assert isinstance(most, int | None)
        assert isinstance(temperature, int | float)
        return Question(
            _asked(body["messages"]),
            self._access,
            options.k,
            where,
            options.user,
            answer_tokens=most,
            temperature=temperature,
        )


def _asked(messages: object) -> str:
    """The text of the last message, which must be the user's."""
    assert isinstance(messages, list)
    last = messages[-1]
    if last.get("role") != "user":
        raise InvalidRequest("messages", f"must end with the user's question, got {last['role']!r}")
    content = last.get("content")
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content or [] if isinstance(part, dict)]
    if not all(isinstance(part, str) for part in parts):
        raise InvalidRequest("messages", "a question is made of text parts only")
    return "".join(str(part) for part in parts)


def _event(piece: str | Answer) -> dict[str, object]:
    if isinstance(piece, str):
        return _choice({"role": "assistant", "content": piece}, None)
    usage = piece.usage
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        **_choice({}, piece.finish_reason),
        EXTRA: QueryResponse.of(piece).model_dump(mode="json"),
        "usage": {
            "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
            "total_tokens": total,
        },
    }  # fmt: skip


def _choice(delta: dict[str, str], reason: str | None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
