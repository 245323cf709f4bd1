"""The small honest generator: it says what it was told to say. No weights, no network.

For tests and air-gapped smoke runs. A token is a word with the white space before it, so counts
are exact and predictable, and limits, stop strings and overflow behave as in a real engine.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import orjson

from llm_endpoint.errors import (
    ContextOverflow,
    EngineAnswerInvalid,
    EngineDied,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from llm_endpoint.generation.joining import join_events
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    GeneratorInfo,
    Message,
    Route,
    TokenUsage,
)

_TOKEN = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Fault:
    """A reply that goes wrong after saying `text`.

    hang: silence until the request's timeout, then EngineTimeout. die: EngineDied.
    refuse: EngineRefused (status 400). garbage: EngineAnswerInvalid.
    """

    kind: Literal["hang", "die", "refuse", "garbage"]
    text: str = ""


Reply = str | Fault
Script = Sequence[Reply] | Callable[[GenerationRequest], Reply]


class ScriptedGenerator:
    """Answers from a list, in order and then from its start again, or from a function."""

    def __init__(
        self,
        replies: Script,
        *,
        model: str = "scripted",
        context_tokens: int = 2048,
        delay_s: float = 0.0,
    ) -> None:
        """`delay_s` is the wait before each token."""
        if not callable(replies) and not replies:
            raise ValueError("replies is empty; give at least one reply")
        self._replies = replies
        self._info = GeneratorInfo(model, "scripted", context_tokens, None)
        self._delay_s = delay_s
        self._is_closed = False
        self._served = 0

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    async def generate(self, request: GenerationRequest) -> Completion:
        async with aclosing(self.stream(request)) as deltas:
            seen = [delta async for delta in deltas]
        last = seen[-1]
        usage = last.usage or TokenUsage(0, 0)
        text = "".join(delta.text for delta in seen)
        return Completion(text, last.finish_reason or "stop", usage, self._info.model)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[CompletionDelta, None]:
        prompt_tokens = self._accept(request)
        reply = self._next_reply(request)
        text = reply if isinstance(reply, str) else reply.text
        tokens = _TOKEN.findall(_before_stop(text, request.stop))
        room = min(request.max_tokens, self._info.context_tokens - prompt_tokens)
        started = asyncio.get_running_loop().time()
        for token in tokens[:room]:
            await asyncio.sleep(self._delay_s)
            if asyncio.get_running_loop().time() - started > request.timeout_s:
                raise EngineTimeout(self._info.model, request.timeout_s)
            yield CompletionDelta(token)
        if isinstance(reply, Fault):
            await self._go_wrong(reply, request)
        reason = "length" if len(tokens) > room else "stop"
        usage = TokenUsage(prompt_tokens, min(len(tokens), room))
        yield CompletionDelta("", reason, usage)

    async def ask(self, route: Route, body: Mapping[str, object], *, timeout_s: float) -> bytes:
        async with aclosing(self.ask_stream(route, body, timeout_s=timeout_s)) as events:
            return orjson.dumps(join_events([orjson.loads(event) async for event in events]))

    async def ask_stream(
        self, route: Route, body: Mapping[str, object], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        """Reads messages or prompt, max_tokens and stop, as texts only; ignores the rest."""
        is_chat = route == "chat/completions"
        async with aclosing(self.stream(_request_of(body, is_chat, timeout_s))) as deltas:
            async for delta in deltas:
                piece = {"delta": {"content": delta.text}} if is_chat else {"text": delta.text}
                event: dict[str, object] = {
                    "id": f"{self._info.model}-{self._served}",
                    "object": "chat.completion.chunk" if is_chat else "text_completion",
                    "created": 0,
                    "model": self._info.model,
                    "choices": [{"index": 0, **piece, "finish_reason": delta.finish_reason}],
                }
                if delta.usage is not None:
                    event["usage"] = _usage_form(delta.usage)
                yield orjson.dumps(event)

    async def count_tokens(self, text: str) -> int:
        """Exact, by this generator's own definition of a token."""
        return len(_TOKEN.findall(text))

    async def close(self) -> None:
        self._is_closed = True

    def _accept(self, request: GenerationRequest) -> int:
        if self._is_closed:
            raise EngineUnavailable(f"{self._info.model} is closed; build a new generator")
        prompt = "\n".join(message.content for message in request.messages)
        prompt_tokens = len(_TOKEN.findall(prompt))
        if prompt_tokens >= self._info.context_tokens:
            raise ContextOverflow(self._info.model, prompt_tokens, self._info.context_tokens)
        return prompt_tokens

    def _next_reply(self, request: GenerationRequest) -> Reply:
        if callable(self._replies):
            return self._replies(request)
        reply = self._replies[self._served % len(self._replies)]
        self._served += 1
        return reply

    async def _go_wrong(self, fault: Fault, request: GenerationRequest) -> None:
        model = self._info.model
        match fault.kind:
            case "hang":
                await asyncio.sleep(request.timeout_s)
                raise EngineTimeout(model, request.timeout_s)
            case "die":
                raise EngineDied(f"{model} died in the middle of an answer; ask again")
            case "refuse":
                raise EngineRefused(model, 400, "refused by the script")
            case "garbage":
                raise EngineAnswerInvalid(model, "garbage by the script")


def _before_stop(text: str, stop: tuple[str, ...]) -> str:
    ends = [position for string in stop if string and (position := text.find(string)) >= 0]
    return text[: min(ends)] if ends else text


def _request_of(body: Mapping[str, object], is_chat: bool, timeout_s: float) -> GenerationRequest:
    listed = body.get("messages") if is_chat else [{"role": "user", "content": body.get("prompt")}]
    messages = tuple(
        Message(form["role"], str(form["content"]))
        for form in (listed if isinstance(listed, list) else [])
    )
    stop, most = body.get("stop"), body.get("max_tokens")
    stops = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else ()
    return GenerationRequest(
        messages, most if isinstance(most, int) else 1_000_000, stop=stops, timeout_s=timeout_s
    )


def _usage_form(usage: TokenUsage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
