import subprocess
import sys

import numpy as np
import pytest

from llm_endpoint.embedding import HashingEmbedder


def test_one_word_is_one_signed_axis() -> None:
    (vector,) = HashingEmbedder(dim=64).embed_queries(["csv"])
    assert sorted(np.abs(vector)) == [0.0] * 63 + [1.0]


def test_case_and_punctuation_do_not_count() -> None:
    first, second = HashingEmbedder().embed_queries(["Read a CSV!", "read, a csv"])
    np.testing.assert_array_equal(first, second)


def test_another_process_gets_the_same_vectors() -> None:
    program = (
        "from llm_endpoint.embedding import HashingEmbedder as H;"
        "print(H(16).embed_queries(['one two three']).tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (
        done.stdout.strip() == HashingEmbedder(16).embed_queries(["one two three"]).tobytes().hex()
    )


def test_a_dimension_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="dim is 1"):
        HashingEmbedder(1)
