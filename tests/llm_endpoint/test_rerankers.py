"""One contract for every reranker; the values of those that read words are computed by hand."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from llm_endpoint import find_card
from llm_endpoint.embedding import HashingEmbedder
from llm_endpoint.embedding.onnx import OnnxEmbedder
from llm_endpoint.errors import InvalidText
from llm_endpoint.rerank import MaxSimReranker, Reranker, WordOverlapReranker
from llm_endpoint.rerank.remote import RemoteReranker

QUESTION = "read a csv file"
TEXTS = [
    "volcanoes erupt beneath glaciers",
    "the csv module can read a file",
    "",
    "a file on disk",
    "Read: CSV?",
]
# The words of the question are four: read, a, csv, file. With an axis for each word, a word's
# highest cosine with a text is 1 if the text has it, else 0, and MaxSim is the share of words.
SHARES = [0.0, 1.0, 0.0, 0.5, 0.5]

# Enough axes that no two words above share one.
WORDS = HashingEmbedder(4096)


def onnx_embedder(weights_dir: Path) -> OnnxEmbedder:
    card = find_card("all-minilm-l6-v2-int8")
    folder = weights_dir / card.name
    return OnnxEmbedder(
        folder / "model.onnx",
        folder / "tokenizer.json",
        id=card.name,
        weights_sha256=card.weights_sha256,
    )


@contextlib.contextmanager
def serving(reranker: Reranker) -> Iterator[str]:
    """The base URL of a peer on a socket that answers as Jina, Cohere and vLLM do: best first."""

    async def rerank(request: Request) -> JSONResponse:
        body = await request.json()
        scores = await reranker.rerank(body["query"], body["documents"])
        best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body["top_n"]]
        results = [{"index": i, "relevance_score": float(scores[i])} for i in best]
        return JSONResponse({"model": body["model"], "results": results})

    app = Starlette(routes=[Route("/v1/rerank", rerank, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended before it listened"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()


def build(name: str, weights_dir: Path) -> Iterator[Reranker]:
    match name:
        case "overlap":
            yield WordOverlapReranker()
        case "maxsim-words":
            yield MaxSimReranker(WORDS)
        case "maxsim-onnx":
            yield MaxSimReranker(onnx_embedder(weights_dir))
        case "remote":
            with serving(MaxSimReranker(WORDS)) as base_url:
                yield RemoteReranker(base_url, "words")


@pytest.fixture(scope="module", params=["overlap", "maxsim-words", "remote", "maxsim-onnx"])
def reranker(request: pytest.FixtureRequest, weights_dir: Path) -> Iterator[Reranker]:
    yield from build(request.param, weights_dir)


@pytest.fixture(scope="module", params=["overlap", "maxsim-words", "remote"])
def reads_words(request: pytest.FixtureRequest, weights_dir: Path) -> Iterator[Reranker]:
    yield from build(request.param, weights_dir)


def scores(reranker: Reranker, question: str, texts: list[str]) -> NDArray[np.float32]:
    return asyncio.run(reranker.rerank(question, texts))


def test_a_score_is_the_share_of_the_questions_words_in_the_text(reads_words: Reranker) -> None:
    np.testing.assert_array_equal(scores(reads_words, QUESTION, TEXTS), np.float32(SHARES))


def test_a_word_asked_twice_counts_twice(reads_words: Reranker) -> None:
    np.testing.assert_allclose(scores(reads_words, "csv csv file", ["csv"]), [2 / 3], rtol=1e-6)


def test_a_question_without_words_scores_nothing(reads_words: Reranker) -> None:
    np.testing.assert_array_equal(scores(reads_words, "?!", ["csv", ""]), np.float32([0, 0]))


def test_every_text_gets_one_finite_float32_score(reranker: Reranker) -> None:
    got = scores(reranker, QUESTION, TEXTS)
    assert (got.shape, got.dtype) == ((len(TEXTS),), np.dtype(np.float32))
    assert np.isfinite(got).all()


def test_no_texts_give_no_scores(reranker: Reranker) -> None:
    got = scores(reranker, QUESTION, [])
    assert (got.shape, got.dtype) == ((0,), np.dtype(np.float32))


def test_scores_follow_the_order_of_the_texts(reranker: Reranker) -> None:
    forward = scores(reranker, QUESTION, TEXTS)
    np.testing.assert_allclose(scores(reranker, QUESTION, TEXTS[::-1])[::-1], forward, atol=1e-5)


def test_a_text_has_the_same_score_alone_and_among_many(reranker: Reranker) -> None:
    many = [*TEXTS, *("filler " * n for n in range(1, 90))]
    alone = [scores(reranker, QUESTION, [text])[0] for text in TEXTS]
    np.testing.assert_allclose(scores(reranker, QUESTION, many)[: len(TEXTS)], alone, atol=1e-5)


def test_the_text_that_answers_is_first(reranker: Reranker) -> None:
    assert int(np.argmax(scores(reranker, QUESTION, TEXTS))) == 1


def test_many_calls_at_once_get_the_scores_that_one_gets(reranker: Reranker) -> None:
    async def many() -> list[NDArray[np.float32]]:
        return await asyncio.gather(*(reranker.rerank(QUESTION, TEXTS) for _ in range(16)))

    expected = scores(reranker, QUESTION, TEXTS)
    for got in asyncio.run(many()):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_lone_surrogate_is_refused_by_text_and_position(reranker: Reranker) -> None:
    with pytest.raises(InvalidText, match=r"text 1 .*U\+D800 at character 2"):
        scores(reranker, QUESTION, ["fine", "ab\ud800"])
    with pytest.raises(InvalidText, match=r"U\+D800 at character 0"):
        scores(reranker, "\ud800", ["fine"])


def test_closing_twice_is_fine(weights_dir: Path) -> None:
    async def close_twice(one: Reranker) -> None:
        await one.close()
        await one.close()

    for name in ("overlap", "maxsim-words", "remote"):
        for one in build(name, weights_dir):
            asyncio.run(close_twice(one))
