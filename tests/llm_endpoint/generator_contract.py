"""What every generator keeps to: tests that ask for a `generator` of a context of 512 tokens."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest

from llm_endpoint.errors import ContextOverflow
from llm_endpoint.generation import (
    CompletionDelta,
    GenerationRequest,
    Generator,
    Message,
    OpenAIEngine,
    Route,
)

QUESTION = (Message("system", "You are brief."), Message("user", "Name three colours."))


def deltas_of(
    generator: Generator, request: GenerationRequest
) -> AsyncGenerator[CompletionDelta, None]:
    return cast(AsyncGenerator[CompletionDelta, None], generator.stream(request))


async def collect(generator: Generator, request: GenerationRequest) -> list[CompletionDelta]:
    return [delta async for delta in generator.stream(request)]


def test_an_answer_has_text_reason_usage_and_model(generator: Generator) -> None:
    answer = asyncio.run(generator.generate(GenerationRequest(QUESTION, max_tokens=40)))
    assert answer.text.strip()
    assert answer.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 40
    assert answer.model == generator.info.model


def test_a_stream_says_what_generate_says(generator: Generator) -> None:
    request = GenerationRequest(QUESTION, max_tokens=24)
    # llama.cpp computes a cached prompt in other batches than a new one, and greedy choices can
    # tip over on the last bits: compare two answers from the cache.
    asyncio.run(generator.generate(request))
    whole = asyncio.run(generator.generate(request))
    deltas = asyncio.run(collect(generator, request))
    assert "".join(delta.text for delta in deltas) == whole.text
    assert len(deltas) > 2


def test_only_the_last_delta_has_reason_and_usage(generator: Generator) -> None:
    *early, last = asyncio.run(collect(generator, GenerationRequest(QUESTION, max_tokens=24)))
    assert all(delta.finish_reason is None and delta.usage is None for delta in early)
    assert last.finish_reason in ("stop", "length")
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_max_tokens_is_a_hard_limit(generator: Generator) -> None:
    answer = asyncio.run(generator.generate(GenerationRequest(QUESTION, max_tokens=3)))
    assert (answer.usage.completion_tokens, answer.finish_reason) == (3, "length")


def test_a_stop_string_ends_the_answer_and_is_not_in_it(generator: Generator) -> None:
    asyncio.run(generator.generate(GenerationRequest(QUESTION, max_tokens=24)))
    whole = asyncio.run(generator.generate(GenerationRequest(QUESTION, max_tokens=24)))
    stop = whole.text.split()[2]
    cut = asyncio.run(generator.generate(GenerationRequest(QUESTION, 24, stop=(stop,))))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(
    generator: Generator,
) -> None:
    request = GenerationRequest((Message("user", "word " * 700),), max_tokens=1)
    with pytest.raises(ContextOverflow) as refusal:
        asyncio.run(generator.generate(request))
    assert (refusal.value.status, refusal.value.context_tokens) == (400, 512)
    assert 700 <= (refusal.value.prompt_tokens or 0) < 800
    with pytest.raises(ContextOverflow):
        asyncio.run(collect(generator, request))


def test_after_a_stream_closed_early_the_next_request_is_served(generator: Generator) -> None:
    async def leave_early() -> None:
        async with aclosing(deltas_of(generator, GenerationRequest(QUESTION, 24))) as deltas:
            async for _ in deltas:
                break

    asyncio.run(leave_early())
    assert asyncio.run(generator.generate(GenerationRequest(QUESTION, max_tokens=3))).text


def test_requests_at_once_are_all_served(generator: Generator) -> None:
    async def ask_five() -> list[str]:
        request = GenerationRequest(QUESTION, max_tokens=6)
        answers = await asyncio.gather(*(generator.generate(request) for _ in range(5)))
        return [answer.text for answer in answers]

    assert all(asyncio.run(ask_five()))


def test_tokens_of_no_text_are_none_and_more_text_has_more(generator: Generator) -> None:
    async def count() -> list[int]:
        return [await generator.count_tokens(text) for text in ("", "one", "one two three four")]

    none, one, four = asyncio.run(count())
    assert none == 0 < one < four


CHAT: dict[str, object] = {
    "messages": [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Name three colours."},
    ],
    "max_tokens": 24,
    "temperature": 0,
}


async def events_of(engine: OpenAIEngine, route: Route, body: dict[str, object]) -> list[Any]:
    return [json.loads(event) async for event in engine.ask_stream(route, body, timeout_s=60)]


def test_asked_in_openais_words_it_answers_in_them(generator: Any) -> None:
    answer = json.loads(asyncio.run(generator.ask("chat/completions", CHAT, timeout_s=60)))
    (choice,) = answer["choices"]
    assert answer["object"] == "chat.completion"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].strip()
    assert choice["finish_reason"] in ("stop", "length")
    assert answer["model"] == generator.info.model
    assert 0 < answer["usage"]["completion_tokens"] <= 24


def test_a_plain_completion_has_a_text(generator: Any) -> None:
    body: dict[str, object] = {"prompt": "The three colours are", "max_tokens": 8}
    answer = json.loads(asyncio.run(generator.ask("completions", body, timeout_s=60)))
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"]
    assert 0 < answer["usage"]["completion_tokens"] <= 8


def test_events_carry_the_answer_in_pieces_and_the_usage_last(generator: Any) -> None:
    events = asyncio.run(events_of(generator, "chat/completions", CHAT))
    pieces = [c["delta"].get("content") or "" for e in events for c in e["choices"]]
    reasons = [c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]]
    assert len([piece for piece in pieces if piece]) > 2
    assert reasons in (["stop"], ["length"])
    assert events[-1]["usage"]["prompt_tokens"] > 0
    assert not any("prompt_progress" in event for event in events)


def test_too_long_a_prompt_is_the_same_error_in_openais_words(generator: Any) -> None:
    body = CHAT | {"messages": [{"role": "user", "content": "word " * 700}], "max_tokens": 1}
    with pytest.raises(ContextOverflow) as refusal:
        asyncio.run(generator.ask("chat/completions", body, timeout_s=60))
    assert refusal.value.context_tokens == 512


def test_events_left_early_leave_room_for_the_next_question(generator: Any) -> None:
    async def leave_early() -> None:
        async with aclosing(generator.ask_stream("chat/completions", CHAT, timeout_s=60)) as events:
            async for _ in events:
                break

    asyncio.run(leave_early())
    assert asyncio.run(generator.ask("chat/completions", CHAT, timeout_s=60))
