"""Which of a batch's texts an embedder cannot take: the rest get their vectors.

A batch that fails is halved until the texts that fail by themselves stand alone. Before that a
harmless text is embedded, so that an embedder that is down is not taken for poison in a row.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.errors import ContextOverflow, EngineTimeout, InvalidText
from llm_endpoint.text import check_texts
from pipelines.errors import EmbedderStuck
from pipelines.reasons import Reason

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

_HARMLESS = "a"
_DETAIL_CHARACTERS = 500
_REASONS: tuple[tuple[type[BaseException], Reason], ...] = (
    (InvalidText, Reason.BAD_ENCODING),
    (ContextOverflow, Reason.TOO_LONG),
    (EngineTimeout, Reason.EMBEDDER_TIMEOUT),
    (TimeoutError, Reason.EMBEDDER_TIMEOUT),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the text at `position` has no vector."""

    position: int
    reason: Reason
    detail: str


def isolate(
    embed: Embed, texts: Sequence[str], *, timeout_s: float | None = None, max_calls: int = 64
) -> tuple[NDArray[np.float32], tuple[Failure, ...]]:
    """Vectors float32 (n, dim) of all texts, and which of them failed: those rows are zeros.

    One call where nothing fails. timeout_s: bounds each call; one that hangs is left behind in
    its thread, which nobody can end, so a call that hung is followed by one of a harmless text.
    max_calls: bounds all of them; texts that are not told apart by then fail together, and say
    so. dim is 0 where every text failed. Raises EmbedderStuck where the harmless text fails too.
    """
    if max_calls < 1:
        raise ValueError(f"max_calls is {max_calls}; a batch takes at least 1")
    search = _Search(embed, texts, timeout_s, max_calls)
    whole = [place for place in range(len(texts)) if not search.is_malformed(place)]
    search.look(whole)
    dim = next((len(vector) for vector in search.vectors.values()), 0)
    vectors = np.zeros((len(texts), dim), np.float32)
    for place, vector in search.vectors.items():
        vectors[place] = vector
    return vectors, tuple(sorted(search.failures, key=lambda failure: failure.position))


@dataclass(slots=True)
class _Search:
    embed: Embed
    texts: Sequence[str]
    timeout_s: float | None
    calls_left: int
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    is_known_alive: bool = False

    def is_malformed(self, place: int) -> bool:
        try:
            check_texts([self.texts[place]])
        except InvalidText as exc:
            self.failures.append(Failure(place, Reason.BAD_ENCODING, str(exc)))
            return True
        return False

    def look(self, places: list[int]) -> None:
        waiting = [places] if places else []
        while waiting:
            some = waiting.pop()
            if not self.calls_left:
                self._give_up([*some, *(place for group in waiting for place in group)])
                return
            self.calls_left -= 1
            error = self._try(some)
            if error is None:
                continue
            self._check_alive(error)
            if len(some) == 1:
                self.failures.append(_failure(some[0], error))
            else:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]

    def _try(self, places: list[int]) -> BaseException | None:
        texts = [self.texts[place] for place in places]
        made = called(self.embed, texts, self.timeout_s)
        if isinstance(made, BaseException):
            return made
        if made.ndim != 2 or len(made) != len(texts):
            return ValueError(f"{len(texts)} texts came back as vectors of shape {made.shape}")
        for place, vector in zip(places, made, strict=True):
            if np.isfinite(vector).all():
                self.vectors[place] = vector
            else:
                detail = "its vector holds NaN or infinity"
                self.failures.append(Failure(place, Reason.EMBEDDER_FAILED, detail))
        return None

    def _check_alive(self, error: BaseException) -> None:
        hung = isinstance(error, TimeoutError)
        if self.is_known_alive and not hung:
            return
        answer = called(self.embed, [_HARMLESS], self.timeout_s)
        if isinstance(answer, BaseException):
            raise EmbedderStuck(
                f"the embedder fails on {_HARMLESS!r} too ({_told(answer)}), after "
                f"{_told(error)}; nothing is wrong with the rows: see to the embedder, then sync "
                f"again"
            ) from error
        self.is_known_alive = True

    def _give_up(self, places: list[int]) -> None:
        detail = "its batch failed, and was not told apart within the allowed number of calls"
        self.failures += [Failure(place, Reason.EMBEDDER_FAILED, detail) for place in places]


def called(
    embed: Embed, texts: Sequence[str], timeout_s: float | None
) -> NDArray[np.float32] | BaseException:
    """What the embedder returns, or what it raises; TimeoutError after `timeout_s`."""
    results: list[NDArray[np.float32] | BaseException] = []

    def call() -> None:
        try:
            results.append(embed(texts))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - Rust tokenizers panic past Exception
            results.append(exc)

    if timeout_s is None:
        call()
        return results[0]
    thread = threading.Thread(target=call, name="embed-with-timeout", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if results:
        return results[0]
    if thread.is_alive():
        return TimeoutError(f"no answer within {timeout_s:g} s")
    return RuntimeError("the embedder ended its thread")


def _failure(place: int, error: BaseException) -> Failure:
    reasons = (reason for kind, reason in _REASONS if isinstance(error, kind))
    return Failure(place, next(reasons, Reason.EMBEDDER_FAILED), _told(error))


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_DETAIL_CHARACTERS]
