"""The merge policy, as a function of nothing but sizes."""

import pytest

from vector_index.tiers import SMALLEST_TIER_ROWS, SegmentSize, due

S = SMALLEST_TIER_ROWS


def sizes(*rows, dead=0):
    return [SegmentSize(str(number), count, dead) for number, count in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((), ""),
        ((1,), ""),
        ((1, 1, 1), ""),
        ((1, 1, 1, 1), "0123"),
        ((S, S, S, S + 1), ""),
        ((S * 100, 5, 5, 5, S * 100, 5), "1235"),
        ((S * 2, S * 3, S * 4, S * 2), "0123"),
        ((S * 2, 7, S * 3, S * 4, 7, S * 2), "012345"),
        ((S * 2, S * 3, S * 4), ""),
        ((S * 2, S * 3, S * 4, S * 5), ""),
    ],
)
def test_four_of_a_tier_merge_and_take_the_smaller_ones_with_them(rows, expected):
    assert "".join(due(sizes(*rows))) == expected


def test_a_segment_mostly_dead_is_rewritten_alone():
    assert due([SegmentSize("a", 100, 31), SegmentSize("b", 100, 30)]) == ("a",)


def test_a_tier_counts_living_rows():
    grown = [SegmentSize(str(n), S * 2, S + 1) for n in range(4)]
    assert len(due(grown)) == 4
    assert due([*grown[:3], SegmentSize("big", S * 2, 0)]) == ("0", "1", "2")


def test_a_million_rows_flushed_at_a_time_stay_in_few_segments_and_are_rarely_rewritten():
    segments, rewritten, most = [], 0, 0
    for number in range(128):
        segments.append(SegmentSize(f"f{number}", 8192, 0))
        while chosen := due(segments):
            rows = sum(s.rows for s in segments if s.id in chosen)
            segments = [s for s in segments if s.id not in chosen]
            segments.append(SegmentSize(f"m{number}-{rows}", rows, 0))
            rewritten += rows
        most = max(most, len(segments))
    assert most <= 12
    assert rewritten <= 5 * 128 * 8192
