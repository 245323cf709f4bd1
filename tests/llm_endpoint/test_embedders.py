"""One contract for every embedder."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from llm_endpoint import find_card
from llm_endpoint.embedding import Embedder, HashingEmbedder, TokenEmbedder
from llm_endpoint.embedding.onnx import OnnxEmbedder
from llm_endpoint.errors import InvalidText

TEXTS = ["how do I read a csv file", "", "a\x00b", "naïve 日本語 🙂", "word " * 900, "   \n\t"]


class BothEmbedder(Embedder, TokenEmbedder, Protocol):
    """What both of ours are."""


@pytest.fixture(scope="module", params=["hashing", "onnx"])
def embedder(request: pytest.FixtureRequest, weights_dir: Path) -> Iterator[BothEmbedder]:
    built: BothEmbedder
    if request.param == "hashing":
        built = HashingEmbedder()
    else:
        card = find_card("all-minilm-l6-v2-int8")
        folder = weights_dir / card.name
        built = OnnxEmbedder(
            folder / "model.onnx",
            folder / "tokenizer.json",
            id=card.name,
            weights_sha256=card.weights_sha256,
        )
    yield built
    built.close()


def test_every_text_gets_one_float32_row_of_length_one(embedder: Embedder) -> None:
    vectors = embedder.embed_passages(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.info.dim)
    assert vectors.dtype == np.dtype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_no_texts_give_no_rows_of_the_right_width(embedder: Embedder) -> None:
    assert embedder.embed_passages([]).shape == (0, embedder.info.dim)
    assert embedder.embed_queries([]).shape == (0, embedder.info.dim)


def test_a_text_has_the_same_vector_alone_and_beside_longer_ones(embedder: Embedder) -> None:
    together = embedder.embed_passages(TEXTS)
    alone = np.vstack([embedder.embed_passages([text]) for text in TEXTS])
    assert np.sum(together * alone, axis=1).min() > 0.9999


def test_rows_follow_the_order_of_the_texts(embedder: Embedder) -> None:
    forward = embedder.embed_passages(TEXTS)
    backward = embedder.embed_passages(TEXTS[::-1])
    assert np.sum(forward * backward[::-1], axis=1).min() > 0.9999


def test_texts_that_share_meaning_and_words_are_closer_than_strangers(embedder: Embedder) -> None:
    query, near, far = embedder.embed_queries(
        [
            "how to read a csv file in python",
            "read a csv file in python with the csv module",
            "volcanoes erupt beneath glaciers",
        ]
    )
    assert query @ near > query @ far + 0.3


def test_progress_adds_up_to_the_number_of_texts(embedder: Embedder) -> None:
    done: list[int] = []
    embedder.embed_passages(TEXTS * 20, on_progress=done.append)
    assert sum(done) == len(TEXTS) * 20


def test_a_lone_surrogate_is_refused_by_text_and_position(embedder: Embedder) -> None:
    with pytest.raises(InvalidText, match=r"text 1 .*U\+D800 at character 2") as refusal:
        embedder.embed_passages(["fine", "ab\ud800"])
    assert (refusal.value.text_index, refusal.value.position) == (1, 2)


def test_many_threads_get_the_vectors_that_one_gets(embedder: Embedder) -> None:
    texts = [f"passage number {number} about csv files" for number in range(40)]
    expected = embedder.embed_passages(texts)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda text: embedder.embed_queries([text])[0], texts))
    assert np.sum(expected * np.array(rows), axis=1).min() > 0.9999


def test_every_token_gets_one_float32_row_of_length_one(embedder: BothEmbedder) -> None:
    for text, vectors in zip(TEXTS, embedder.embed_tokens(TEXTS), strict=True):
        assert vectors.shape[1] == embedder.info.dim
        assert vectors.dtype == np.dtype(np.float32)
        assert (len(vectors) > 0) == bool(text.strip())
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_word_is_a_token_and_what_the_model_adds_is_left_out(embedder: BothEmbedder) -> None:
    counts = [len(vectors) for vectors in embedder.embed_tokens(["read", "read a file", ""])]
    assert counts == [1, 3, 0]


def test_no_texts_give_no_token_vectors(embedder: BothEmbedder) -> None:
    assert embedder.embed_tokens([]) == []


def test_tokens_are_the_same_alone_and_beside_longer_texts(embedder: BothEmbedder) -> None:
    together = embedder.embed_tokens(TEXTS)
    for text, vectors in zip(TEXTS, together, strict=True):
        (alone,) = embedder.embed_tokens([text])
        assert alone.shape == vectors.shape
        assert np.sum(alone * vectors, axis=1).min(initial=1.0) > 0.9999


def test_tokens_follow_the_order_of_the_text(embedder: BothEmbedder) -> None:
    forward, backward = embedder.embed_tokens(["volcano csv", "csv volcano"])
    assert forward[0] @ backward[1] > forward[0] @ backward[0]


def test_tokens_of_a_lone_surrogate_are_refused(embedder: BothEmbedder) -> None:
    with pytest.raises(InvalidText, match=r"text 0 .*U\+D800 at character 0"):
        embedder.embed_tokens(["\ud800"])
