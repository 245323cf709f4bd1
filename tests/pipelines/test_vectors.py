"""Vectors out of Arrow columns, checked against numpy and by hand."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import BadVectors, SchemaMismatch
from pipelines.sources.vectors import vectors_of

KINDS = [
    pa.list_(pa.float32()), pa.list_(pa.float64()), pa.large_list(pa.float32()),
    pa.list_(pa.float32(), 2), pa.list_(pa.float64(), 2), pa.list_(pa.float16(), 2),
]  # fmt: skip


def batch(vectors, kind=KINDS[0]):
    return pa.record_batch({"v": pa.array(vectors, kind)})


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_float_list_is_read_and_normalised(kind):
    found = vectors_of(batch([[3.0, 4.0], [0.0, -2.0]], kind), "v", 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, -1.0]], rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS[:5], ids=str)
def test_a_part_of_a_larger_array_is_read_where_it_stands(kind):
    whole = batch([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], kind)
    assert vectors_of(whole.slice(1, 2), "v", 2).tolist() == [[0.0, 1.0], [-1.0, 0.0]]
    assert vectors_of(whole.slice(0, 0), "v", 2).shape == (0, 2)


def test_what_is_normalised_already_is_stored_bit_for_bit():
    made = np.random.default_rng(1).normal(size=(200, 384)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    found = vectors_of(batch(list(made)), "v", 384)
    assert found.tobytes() == made.tobytes()
    assert vectors_of(batch(list(found)), "v", 384).tobytes() == found.tobytes()


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30, 3e38])
def test_lengths_that_float32_cannot_square_normalise_all_the_same(scale):
    tall = np.array([[3.0, 4.0], [1.0, 0.0]]) / 4 * scale
    for kind in KINDS[:2]:
        np.testing.assert_allclose(
            vectors_of(batch(tall.tolist(), kind), "v", 2), [[0.6, 0.8], [1.0, 0.0]], rtol=1e-5
        )
    far = vectors_of(batch([[3e300, 4e300]], KINDS[1]), "v", 2)
    np.testing.assert_allclose(far, [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, r"1 rows have no vector of 2 floats, the first is row 1 .*: null, 2\)"),
        ([1.0], r"have no vector of 2 floats, .*: 1, 2\)"),
        ([1.0, 2.0, 3.0], r"have no vector of 2 floats, .*: 2, 3\)"),
        ([1.0, None], "hold a null, NaN or infinity, the first is row 1"),
        ([float("nan"), 1.0], "hold a null, NaN or infinity"),
        ([float("-inf"), 1.0], "hold a null, NaN or infinity"),
        ([0.0, -0.0], "are all zeros"),
    ],
)
def test_rows_that_have_no_direction_are_named_by_their_numbers(bad, message):
    with pytest.raises(BadVectors, match=message) as refused:
        vectors_of(batch([[1.0, 0.0], bad, [0.0, 1.0]]), "v", 2)
    assert refused.value.rows == (1,)


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.string(), pa.list_(pa.string())])
def test_a_column_of_something_else_is_named(kind):
    with pytest.raises(SchemaMismatch, match="'v' must be a list of floats, it is"):
        vectors_of(pa.record_batch({"v": pa.nulls(1, kind)}), "v", 2)
