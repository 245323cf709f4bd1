"""One suite for every kind of segment vectors, and what only some kinds do."""

import gc
import re

import numpy as np
import pytest

from vector_index.errors import IndexCorrupt, TooFewRows
from vector_index.kinds import (
    KINDS,
    RETRAIN_ABOVE_DRIFT,
    choose_kind,
    drift,
    merge_vectors,
    min_rows,
)

K = 10
EXACT = ("exact", "flat")
IVF = ("ivf_flat", "ivf_sq8", "ivf_rabitq")


def clustered(rows, seed=0, dim=32, centres=60):
    """float32 (rows, dim): unit vectors around centres that overlap."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng([7, centres]).standard_normal((centres, dim))
    points = middles[rng.integers(0, centres, rows)] + 0.6 * rng.standard_normal((rows, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


VECTORS, QUERIES = clustered(4000), clustered(50, seed=1)


def truth(vectors, queries, k=K):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def recall(found, expected):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)])


@pytest.fixture(scope="module")
def built():
    return {kind: KINDS[kind].build(VECTORS) for kind in KINDS}


@pytest.fixture(params=list(KINDS))
def segment(request, built):
    return built[request.param]


@pytest.fixture
def reopened(segment, tmp_path):
    segment.write(tmp_path)
    return KINDS[segment.kind].open(tmp_path)


def test_a_segment_says_what_it_holds(segment):
    assert (segment.count, segment.dim) == (4000, 32)
    assert KINDS[segment.kind].build(VECTORS[:500]).kind == segment.kind


def test_the_nearest_are_found_best_first_with_their_true_products(segment):
    scores, rows = segment.scan(QUERIES, K)
    assert (scores.dtype, rows.dtype, rows.shape) == (np.float32, np.int64, (50, K))
    assert recall(rows, truth(VECTORS, QUERIES)) >= (1.0 if segment.kind in EXACT else 0.95)
    expected = np.take_along_axis(QUERIES @ VECTORS.T, rows, axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_queries_of_a_batch_are_answered_as_if_alone(segment):
    _, together = segment.scan(QUERIES, K)
    alone = [segment.scan(query[np.newaxis], K)[1][0] for query in QUERIES]
    np.testing.assert_array_equal(together, alone)


def test_what_was_written_and_opened_gives_identical_answers(segment, reopened):
    for before, after in zip(segment.scan(QUERIES, K), reopened.scan(QUERIES, K), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (reopened.kind, reopened.count, reopened.dim) == (segment.kind, 4000, 32)


def test_the_original_vectors_come_back_bit_for_bit(reopened):
    rows = np.array([3999, 0, 17, 17])
    np.testing.assert_array_equal(reopened.reconstruct(rows), VECTORS[rows])
    np.testing.assert_array_equal(reopened.originals, VECTORS)
    assert reopened.reconstruct(np.empty(0, np.int64)).shape == (0, 32)


def test_the_original_vectors_outlive_the_segment_and_cannot_be_written(segment, tmp_path):
    segment.write(tmp_path)
    originals = KINDS[segment.kind].open(tmp_path).originals
    gc.collect()
    np.testing.assert_array_equal(originals, VECTORS)
    with pytest.raises(ValueError, match="read-only"):
        originals[0, 0] = 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_only_allowed_rows_come_back_and_missing_ones_are_marked(reopened, share):
    allowed = np.random.default_rng(2).random(4000) < share
    scores, rows = reopened.scan(QUERIES, K, allowed=allowed)
    assert allowed[rows[rows >= 0]].all()
    np.testing.assert_array_equal(rows < 0, np.isneginf(scores))


def test_more_than_there_is_can_be_asked(segment):
    small = KINDS[segment.kind].build(VECTORS[:400])
    scores, rows = small.scan(QUERIES[:3], 450, effort=1000)
    assert rows.shape == scores.shape == (3, 450)
    assert (rows[:, 400:] == -1).all()
    # HNSW may not reach every row of its graph.
    assert (rows >= 0).sum() >= 3 * 395


def test_more_effort_finds_more(segment):
    low, high = (segment.scan(QUERIES, 100, effort=effort)[1] for effort in (1, 50))
    expected = truth(VECTORS, QUERIES, 100)
    assert recall(high, expected) >= max(recall(low, expected), 0.99)


@pytest.mark.parametrize("kind", EXACT)
def test_scores_by_hand_and_ties_in_the_order_of_rows(kind):
    vectors = np.array([[0.6, 0.8], [1, 0], [0, 1], [1, 0], [0.8, 0.6], [1, 0]], np.float32)
    segment = KINDS[kind].build(vectors)
    query = np.array([[1, 0]], np.float32)
    scores, rows = segment.scan(query, 5)
    assert rows.tolist() == [[1, 3, 5, 4, 0]]
    assert scores[0] == pytest.approx([1, 1, 1, 0.8, 0.6])
    assert segment.scan(query, 2)[1].tolist() == [[1, 3]]
    allowed = np.array([1, 0, 1, 1, 0, 1], np.bool_)
    assert segment.scan(query, 6, allowed=allowed)[1].tolist() == [[3, 5, 0, 2, -1, -1]]


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("queries", [1, 9, 2000])
def test_of_rows_that_are_all_equal_the_first_are_found(kind, queries):
    same = np.tile(np.eye(1, 64, dtype=np.float32), (300, 1))
    _, rows = KINDS[kind].build(same).scan(same[:1].repeat(queries, axis=0), 3)
    assert rows.tolist() == [[0, 1, 2]] * queries


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hnsw_sq8"])
def test_an_empty_segment_answers_with_nothing(kind, built, tmp_path):
    KINDS[kind].build(VECTORS[:0], like=built[kind]).write(tmp_path)
    scores, rows = KINDS[kind].open(tmp_path).scan(QUERIES[:2], 3)
    assert rows.tolist() == [[-1] * 3] * 2
    assert np.isneginf(scores).all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_is_built_from_its_minimum_of_rows_and_refuses_fewer_by_name(kind):
    fewest = min_rows(kind)
    assert KINDS[kind].build(VECTORS[:fewest]).count == fewest
    if fewest:
        with pytest.raises(TooFewRows, match=f"{kind} needs at least {fewest} row"):
            KINDS[kind].build(VECTORS[: fewest - 1])


@pytest.mark.parametrize("kind", list(KINDS))
def test_files_of_another_kind_are_refused(kind, built, tmp_path):
    other = "flat" if kind in ("exact", "ivf_flat") else "ivf_flat"
    built[other].write(tmp_path)
    (tmp_path / "vectors.npy").write_bytes(b"not an array")
    with pytest.raises(IndexCorrupt, match=tmp_path.name):
        KINDS[kind].open(tmp_path)


@pytest.mark.parametrize("kind", [*IVF, "hnsw_sq8"])
def test_an_index_beside_the_originals_of_another_is_refused(kind, built, tmp_path):
    built[kind].write(tmp_path)
    np.save(tmp_path / "vectors.npy", VECTORS[:-1])
    with pytest.raises(IndexCorrupt, match=r"4000 x 32.*3999 x 32"):
        KINDS[kind].open(tmp_path)


def centroids(segment):
    return segment.index.quantizer.reconstruct_n(0, segment.index.nlist)


@pytest.mark.parametrize("kind", IVF)
def test_a_build_keeps_the_training_of_a_like_segment_while_the_data_has_not_drifted(kind, built):
    like, more = built[kind], clustered(3000, seed=3)
    assert drift(more, like) == pytest.approx(1, abs=0.05)
    segment = KINDS[kind].build(more, like=like)
    np.testing.assert_array_equal(centroids(segment), centroids(like))
    assert recall(segment.scan(QUERIES, K)[1], truth(more, QUERIES)) >= 0.95


@pytest.mark.parametrize("kind", IVF)
def test_a_build_trains_anew_on_drifted_data(kind, built):
    elsewhere = clustered(3000, seed=3, centres=61)
    assert drift(elsewhere, built[kind]) > RETRAIN_ABOVE_DRIFT
    segment = KINDS[kind].build(elsewhere, like=built[kind])
    assert drift(elsewhere, segment) == pytest.approx(1, abs=0.05)
    assert not np.isin(centroids(segment), centroids(built[kind])).any()


def test_training_is_remembered_on_disk(built, tmp_path):
    built["ivf_flat"].write(tmp_path)
    opened = KINDS["ivf_flat"].open(tmp_path)
    assert drift(QUERIES, opened) == drift(QUERIES, built["ivf_flat"])


def test_a_build_that_has_outgrown_its_lists_trains_anew():
    small = KINDS["ivf_flat"].build(VECTORS[:400])
    assert centroids(KINDS["ivf_flat"].build(VECTORS, like=small)).shape[0] == 102
    assert centroids(small).shape[0] == 10


def test_a_like_segment_of_another_kind_or_dimension_lends_nothing(built):
    other = clustered(400, dim=16)
    assert KINDS["ivf_flat"].build(other, like=built["ivf_flat"]).dim == 16
    segment = KINDS["ivf_sq8"].build(VECTORS, like=built["ivf_flat"])
    assert segment.kind == "ivf_sq8"
    assert drift(VECTORS, built["hnsw"]) == 1.0


def test_a_few_rows_can_be_built_with_lent_training(built):
    segment = KINDS["ivf_sq8"].build(VECTORS[:3], like=built["ivf_sq8"])
    assert segment.scan(VECTORS[:1], 1)[1].tolist() == [[0]]


@pytest.mark.parametrize("losing_rows", [False, True])
def test_a_merge_answers_like_a_fresh_build(segment, losing_rows, tmp_path):
    more = KINDS[segment.kind].build(clustered(2000, seed=3), like=segment)
    more.write(tmp_path)
    more = KINDS[segment.kind].open(tmp_path)
    kept = np.arange(0, 4000, 2 if losing_rows else 1)
    merged = merge_vectors([(segment, kept), (more, np.arange(2000))], segment.kind)
    expected = np.concatenate([VECTORS[kept], more.originals])
    assert (merged.kind, merged.count) == (segment.kind, len(kept) + 2000)
    np.testing.assert_array_equal(merged.originals, expected)
    found = recall(merged.scan(QUERIES, K)[1], truth(expected, QUERIES))
    fresh = recall(
        KINDS[segment.kind].build(expected).scan(QUERIES, K)[1], truth(expected, QUERIES)
    )
    assert found >= max(0.95, fresh - 0.02)
    # The parts are what they were.
    assert recall(segment.scan(QUERIES, K)[1], truth(VECTORS, QUERIES)) >= 0.95
    assert recall(more.scan(QUERIES, K)[1], truth(more.originals, QUERIES)) >= 0.95


@pytest.mark.parametrize("kind", IVF)
def test_parts_of_one_training_are_joined_without_assigning_rows_again(kind, built, monkeypatch):
    more = KINDS[kind].build(clustered(2000, seed=3), like=built[kind])
    parts = [(built[kind], np.arange(4000)), (more, np.arange(2000))]
    joined = merge_vectors(parts, kind)
    rebuilt = KINDS[kind].build(joined.originals, like=built[kind])
    np.testing.assert_array_equal(joined.scan(QUERIES, K)[1], rebuilt.scan(QUERIES, K)[1])
    monkeypatch.setattr("vector_index.kinds.KINDS", {})
    assert merge_vectors(parts, kind).count == 6000  # a build would miss the table


@pytest.mark.parametrize("kind", list(KINDS))
def test_parts_of_any_kinds_merge_into_any_kind(kind, built):
    parts = [(built[part], np.array([5, 3])) for part in KINDS]
    parts.append((built["flat"], np.arange(1000)))
    merged = merge_vectors(parts, kind)
    assert merged.kind == kind
    np.testing.assert_array_equal(merged.originals[:4], VECTORS[[5, 3, 5, 3]])


@pytest.mark.parametrize(
    ("rows", "dim", "memory_bytes", "kind", "reason"),
    [
        (0, 384, None, "flat", "0 x 384"),
        (20_000, 384, None, "flat", "20,000 x 384 float32 are 30.7 MB"),
        (100_000, 384, None, "ivf_sq8", "100,000 x 384 float32 are 153.6 MB, too many to scan"),
        (100_000, 384, 100 * 10**6, "ivf_sq8", "need 39.2 MB of the 100.0 MB"),
        (100_000, 384, 10**7, "ivf_rabitq", "need 6.4 MB of the 10.0 MB"),
        (100_000, 384, 10**6, "ivf_rabitq", "even as ivf_rabitq.*more than the 1.0 MB"),
        (100, 384, 1, "flat", "other kinds need 312 rows"),
    ],
)
def test_auto_chooses_by_size_and_memory_and_gives_the_numbers(
    rows, dim, memory_bytes, kind, reason
):
    choice = choose_kind(rows, dim, memory_bytes=memory_bytes)
    assert choice.kind == kind

    assert re.search(reason, choice.reason)
