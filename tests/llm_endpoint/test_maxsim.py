import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import current_thread

import numpy as np
import pytest
from numpy.typing import NDArray

from llm_endpoint.embedding import EmbedderInfo, HashingEmbedder
from llm_endpoint.rerank.maxsim import MaxSimReranker, max_sim


def rows(*vectors: tuple[float, float]) -> NDArray[np.float32]:
    return np.array(vectors, dtype=np.float32).reshape(-1, 2)


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        # The text's second token is the nearest to both: 0.8 and 0.6.
        (rows((1, 0), (0, 1)), rows((-1, 0), (0.8, 0.6)), 0.7),
        # Each has its own nearest: 1 and 0.6.
        (rows((1, 0), (0, 1)), rows((1, 0), (0.8, 0.6)), 0.8),
        # Twice the tokens, the same mean: a long question scores no higher.
        (rows((1, 0), (0, 1), (1, 0), (0, 1)), rows((1, 0), (0.8, 0.6)), 0.8),
        (rows((1, 0)), rows((-1, 0)), -1.0),
        (rows((1, 0)), rows(), 0.0),
        (rows(), rows((1, 0)), 0.0),
    ],
)
def test_it_is_the_mean_of_the_highest_cosines(
    question: NDArray[np.float32], text: NDArray[np.float32], expected: float
) -> None:
    assert max_sim(question, text) == pytest.approx(expected, abs=1e-6)


def test_the_question_is_what_must_be_covered_not_the_text() -> None:
    one, two = rows((1, 0)), rows((1, 0), (0, 1))
    assert (max_sim(one, two), max_sim(two, one)) == (1.0, 0.5)


def test_the_info_names_the_embedder_and_its_weights() -> None:
    embedder = HashingEmbedder(8)
    info = MaxSimReranker(embedder).info
    assert (info.model, info.engine) == ("maxsim-hashing-8", "maxsim")
    assert info.weights_sha256 == embedder.info.weights_sha256


def test_it_computes_on_the_executor_it_was_given() -> None:
    class Witness:
        def __init__(self) -> None:
            self.threads: list[str] = []

        @property
        def info(self) -> EmbedderInfo:
            return HashingEmbedder(8).info

        def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
            self.threads.append(current_thread().name)
            return HashingEmbedder(8).embed_tokens(texts)

    witness = Witness()
    with ThreadPoolExecutor(1, thread_name_prefix="embedding") as executor:
        asyncio.run(MaxSimReranker(witness, executor=executor).rerank("a", ["b"]))
    assert set(witness.threads) == {"embedding_0"}
