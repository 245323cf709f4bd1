"""How far an IVF index looks under a filter: measured, remembered, and enough."""

import json

import numpy as np
import pytest
from by_hand import clustered

from vector_index.errors import IndexCorrupt
from vector_index.kinds import KINDS
from vector_index.kinds.faiss_index import Selector
from vector_index.kinds.reach import Reach

ROWS, K = 6000, 10
IVF = ("ivf_flat", "ivf_sq8", "ivf_rabitq")
CURVE = Reach((0.001, 0.01, 1.0), (2.0, 8.0, 32.0), (0.3, 0.4, 0.5))


VECTORS, QUERIES = clustered(ROWS, 0), clustered(100, 1)


@pytest.fixture(scope="module")
def built():
    return {kind: KINDS[kind].build(VECTORS) for kind in IVF}


def recall_of(segment, share):
    """recall@10 of the segment's own scan under a filter keeping this share."""
    allowed = np.random.default_rng(3).random(ROWS) < share
    rows = np.flatnonzero(allowed)
    truth = rows[np.argsort(-(QUERIES @ VECTORS[rows].T), axis=1)[:, :K]]
    effort = segment.effort_for(K, len(rows))
    found = segment.scan(QUERIES, K, allowed=allowed, effort=effort)[1]
    return np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)])


def near_of(segment, queries, share):
    probes = segment.probes(segment.effort_for(K, share * ROWS))
    return segment.lists.near(queries, probes, segment.training.reach.gap_for(probes))


@pytest.mark.parametrize("kind", IVF)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.15, 0.1, 0.02])
def test_queries_held_out_find_their_neighbours_without_looking_everywhere(kind, share, built):
    assert recall_of(built[kind], share) >= 0.95
    assert near_of(built[kind], QUERIES, 0.5).mean < 0.5 * built[kind].index.nlist


def test_a_smaller_share_asks_for_more_lists(built):
    means = [near_of(built["ivf_flat"], QUERIES, share).mean for share in (0.9, 0.1, 0.01)]
    assert means == sorted(set(means))


def test_a_query_like_no_row_looks_at_more_lists_than_one_like_a_row(built):
    strange = np.random.default_rng(5).standard_normal((100, 32)).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    strangers = near_of(built["ivf_flat"], strange, 0.5).mean
    assert strangers > 1.2 * near_of(built["ivf_flat"], QUERIES, 0.5).mean


def test_the_length_of_a_query_changes_no_list(built):
    near = near_of(built["ivf_flat"], QUERIES, 0.5)
    longer = near_of(built["ivf_flat"], 4 * QUERIES, 0.5)
    np.testing.assert_array_equal(near.is_near, longer.is_near)


@pytest.mark.parametrize(
    ("share", "lists"), [(1e-6, 2), (0.001, 2), (10**-2.5, 4), (0.01, 8), (0.1, 16), (1.0, 32)]
)
def test_between_its_points_the_curve_is_a_line_on_logarithmic_axes(share, lists):
    assert CURVE.lists_for(share) == pytest.approx(lists)


def test_where_a_cluster_ends_between_two_points_the_upper_one_counts():
    edged = Reach((0.001, 0.01, 1.0), (2.0, 8.0, 32.0), (0.1, 0.4, 0.5))
    assert [edged.lists_for(share) for share in (0.001, 0.0011, 0.01)] == [2, 8, 8]
    assert edged.lists_for(0.1) == pytest.approx(16)


@pytest.mark.parametrize(
    ("lists", "gap"), [(1, 0.3), (4, 0.35), (8, 0.4), (16, 0.45), (32, 0.5), (99, 0.5)]
)
def test_a_number_of_lists_has_the_gap_of_the_same_rows(lists, gap):
    assert CURVE.gap_for(lists) == pytest.approx(gap)


@pytest.mark.parametrize("kind", IVF)
def test_every_row_is_known_to_be_in_the_list_where_it_is(kind, built):
    expected = np.argmax(VECTORS @ built[kind].lists.centroids.T, axis=1)
    assert np.mean(built[kind].lists.of_row == expected) > 0.999  # but for ties in rounding


def test_picking_rows_in_near_lists_finds_what_testing_them_finds(built):
    segment, allowed = built["ivf_flat"], np.arange(ROWS) % 20 == 0
    near, selector = near_of(segment, QUERIES, 0.05), Selector(allowed)
    rows = np.flatnonzero(allowed)
    picked = segment.lists.scan_picked(QUERIES, VECTORS, K, rows, near)
    tested = segment.lists.scan_tested(QUERIES, K, selector.faiss, near)
    np.testing.assert_array_equal(picked[1], tested[1])
    np.testing.assert_allclose(picked[0], tested[0], atol=1e-6)


def test_reach_is_remembered_on_disk(built, tmp_path):
    built["ivf_sq8"].write(tmp_path)
    opened = KINDS["ivf_sq8"].open(tmp_path)
    assert opened.training == built["ivf_sq8"].training
    assert opened.training.reach.shares[-1] == 1.0


def test_a_segment_written_before_reach_was_measured_still_answers(built, tmp_path):
    built["ivf_sq8"].write(tmp_path)
    file = tmp_path / "ivf.json"
    file.write_text(json.dumps({"mean_distance": json.loads(file.read_text())["mean_distance"]}))
    opened = KINDS["ivf_sq8"].open(tmp_path)
    assert opened.training.reach is None
    assert recall_of(opened, 0.1) >= 0.95


def test_half_a_reach_is_refused(built, tmp_path):
    built["ivf_sq8"].write(tmp_path)
    file = tmp_path / "ivf.json"
    known = json.loads(file.read_text())
    del known["reach"]["gaps"]
    file.write_text(json.dumps(known))
    with pytest.raises(IndexCorrupt, match="gaps"):
        KINDS["ivf_sq8"].open(tmp_path)
