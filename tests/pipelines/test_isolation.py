"""The hashing embedder behind a wrapper that fails on what it is told to: faults none can order."""

import threading

import numpy as np
import pytest

from llm_endpoint.embedding.hashing import HashingEmbedder
from llm_endpoint.errors import ContextOverflow
from pipelines.errors import EmbedderStuck
from pipelines.isolation import isolate
from pipelines.reasons import Reason

HONEST = HashingEmbedder(16)
TEXTS = [f"text number {n}" for n in range(64)]


class Panic(BaseException):
    """As a Rust extension's, which is no Exception."""


class Failing:
    """Raises (or does) what `faults` says for a text; counts its calls."""

    def __init__(self, faults):
        self.faults, self.calls = faults, []

    def __call__(self, texts):
        self.calls.append(list(texts))
        for text in texts:
            fault = self.faults.get(text)
            if callable(fault):
                fault()
            elif fault is not None:
                raise fault
        return HONEST.embed_passages(texts)


def test_a_batch_without_faults_takes_one_call():
    embed = Failing({})
    vectors, failures = isolate(embed, TEXTS)
    assert failures == ()
    assert len(embed.calls) == 1
    np.testing.assert_array_equal(vectors, HONEST.embed_passages(TEXTS))


def test_no_texts_take_no_call():
    embed = Failing({})
    vectors, failures = isolate(embed, [])
    assert (vectors.shape, failures, embed.calls) == ((0, 0), (), [])


@pytest.mark.parametrize("places", [[0], [63], [31, 32], [5, 17, 40]])
def test_just_the_poison_fails_and_the_rest_have_the_vectors_they_have_alone(places):
    embed = Failing({TEXTS[place]: RuntimeError("cannot") for place in places})
    vectors, failures = isolate(embed, TEXTS)
    assert [failure.position for failure in failures] == places
    assert all(failure.detail == "RuntimeError: cannot" for failure in failures)
    good = [place for place in range(64) if place not in places]
    np.testing.assert_array_equal(vectors[good], HONEST.embed_passages([TEXTS[p] for p in good]))
    assert not vectors[places].any()
    # Each poison text costs two calls a halving at most, and one is of the harmless text.
    assert len(embed.calls) <= 2 + 2 * 6 * len(places)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("cannot"), Reason.EMBEDDER_FAILED),
        (ContextOverflow("m", 9, 8), Reason.TOO_LONG),
        (Panic("in the tokenizer"), Reason.EMBEDDER_FAILED),
    ],
)
def test_a_failure_is_named_by_what_was_raised(error, reason):
    _, failures = isolate(Failing({TEXTS[3]: error}), TEXTS)
    assert [(failure.position, failure.reason) for failure in failures] == [(3, reason)]


def test_text_that_is_not_unicode_is_never_sent():
    embed = Failing({})
    _, failures = isolate(embed, ["fine", "bad \udcff"])
    assert [(f.position, f.reason) for f in failures] == [(1, Reason.BAD_ENCODING)]
    assert embed.calls == [["fine"]]


def test_an_interrupt_is_no_failure_of_a_text():
    with pytest.raises(KeyboardInterrupt):
        isolate(Failing({TEXTS[3]: KeyboardInterrupt()}), TEXTS)


def test_a_vector_that_is_not_finite_fails_its_text_alone():
    def embed(texts):
        vectors = HONEST.embed_passages(texts)
        vectors[1] = np.nan
        return vectors

    vectors, failures = isolate(embed, TEXTS[:3])
    assert [failure.position for failure in failures] == [1]
    assert np.isfinite(vectors).all()


def test_too_few_vectors_are_a_failure_and_are_given_to_no_text():
    def embed(texts):
        return HONEST.embed_passages([text for text in texts if text != TEXTS[2]])

    _, failures = isolate(embed, TEXTS[:4])
    assert [failure.position for failure in failures] == [2]
    assert "shape (0, 16)" in failures[0].detail


def test_an_embedder_that_fails_on_everything_puts_no_row_aside():
    embed = Failing(dict.fromkeys(["a", *TEXTS], RuntimeError("down")))
    with pytest.raises(EmbedderStuck, match="down"):
        isolate(embed, TEXTS)
    assert len(embed.calls) == 2


def test_calls_are_bounded_and_what_is_not_told_apart_fails_saying_so():
    embed = Failing(dict.fromkeys(TEXTS[::2], RuntimeError("cannot")))
    vectors, failures = isolate(embed, TEXTS, max_calls=10)
    assert len(embed.calls) == 10 + 1
    failed = {failure.position for failure in failures}
    assert set(range(0, 64, 2)) <= failed
    assert any("not told apart" in failure.detail for failure in failures)
    assert all(vectors[place].any() for place in set(range(64)) - failed)


def test_a_text_that_hangs_the_embedder_is_set_aside_after_the_timeout():
    release = threading.Event()
    try:
        embed = Failing({TEXTS[3]: release.wait})
        vectors, failures = isolate(embed, TEXTS[:8], timeout_s=0.5)
    finally:
        release.set()
    assert [(f.position, f.reason) for f in failures] == [(3, Reason.EMBEDDER_TIMEOUT)]
    assert all(vectors[place].any() for place in range(8) if place != 3)


def test_an_embedder_that_a_text_leaves_hanging_is_named_stuck():
    release, lock = threading.Event(), threading.Lock()

    def embed(texts):
        with lock:  # as a single encoder's: whoever comes later waits for the one that hangs
            if TEXTS[3] in texts:
                release.wait()
            return HONEST.embed_passages(texts)

    try:
        with pytest.raises(EmbedderStuck, match=r"no answer within 0\.5 s"):
            isolate(embed, TEXTS[:8], timeout_s=0.5)
    finally:
        release.set()
