"""One row asked of an engine, however often that takes: its answer or its error."""

import asyncio
import time
from collections.abc import Mapping

import orjson

from llm_endpoint.errors import (
    EngineAnswerInvalid,
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    LlmEndpointError,
)
from llm_endpoint.generation import OpenAIEngine
from pipelines.batch.plan import BatchPlan, prompt_hash
from pipelines.batch.prompts import PromptTemplate, UnfillableRow
from pipelines.batch.results import Result

_TRIES = 3
_PAUSE_FIRST_S = 0.2
_PAUSE_MOST_S = 5.0
# A wrong key, an unknown model: about how we ask, so every row would fail alike.
_OUR_FAULT = (401, 403, 404, 405)


class Asker:
    """Asks rows of an engine. May be asked for several at once."""

    def __init__(
        self, engine: OpenAIEngine, plan: BatchPlan, *, timeout_s: float, patience_s: float = 120.0
    ) -> None:
        """timeout_s: of one row. patience_s: how long an engine that is not there is waited for."""
        self._engine = engine
        self._plan = plan
        self._template = PromptTemplate(plan.prompt)
        self._timeout_s = timeout_s
        self._patience_s = patience_s

    async def ask(self, row: Mapping[str, object]) -> Result:
        """The row's result; what is wrong with the row or its answer is `error` in it.

        Raises EngineError where the engine itself is not there, or refuses us and not the row.
        """
        key = row[self._plan.key]
        try:
            messages = self._plan.messages(self._template.fill(row))
        except UnfillableRow as exc:
            return _failure(key, exc, None)
        asked = prompt_hash(messages)
        try:
            answer = await self._insist(messages)
            return _success(key, answer, asked, self._engine.info.model)
        except EngineUnavailable:
            raise
        except EngineRefused as exc:
            if exc.status in _OUR_FAULT:
                raise
            return _failure(key, exc, asked)
        except LlmEndpointError as exc:
            return _failure(key, exc, asked)

    async def _insist(self, messages: list[dict[str, str]]) -> bytes:
        """The answer; again where the engine was busy, away for a moment, or failed once."""
        until = time.monotonic() + self._patience_s
        failures, pause_s = 0, _PAUSE_FIRST_S
        body: dict[str, object] = {
            "messages": messages,
            "max_tokens": self._plan.max_tokens,
            "temperature": self._plan.temperature,
        }
        while True:
            try:
                return await self._engine.ask("chat/completions", body, timeout_s=self._timeout_s)
            except EngineRefused:
                raise
            except (EngineBusy, EngineUnavailable):
                if time.monotonic() > until:
                    raise
            except EngineError:
                failures += 1
                if failures == _TRIES:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _PAUSE_MOST_S)


def _success(key: object, answer: bytes, asked: str, model: str) -> Result:
    """Raises EngineAnswerInvalid where it is no answer."""
    try:
        form = orjson.loads(answer)
        choice = form["choices"][0]
        usage = form.get("usage") or {}
        return Result(
            key=key,
            response=choice["message"].get("content") or "",
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            error=None,
            prompt_sha256=asked,
        )
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as exc:
        raise EngineAnswerInvalid(model, f"{answer[:80]!r}") from exc


def _failure(key: object, error: Exception, asked: str | None) -> Result:
    return Result(key, None, None, None, None, f"{type(error).__name__}: {error}", asked)
