"""Which segments to merge: a pure function of their sizes and their dead shares."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

# Four of a size make one of the next: each row is rewritten log4(rows) times, and a million
# rows flushed 8,192 at a time are never in more than some 15 segments.
TIER_FACTOR = 4
SMALLEST_TIER_ROWS = 4096
# A segment mostly dead costs every search its dead rows, and keeps deleted text on the disk.
MAX_DEAD_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """rows: all passages; dead_rows: those whose document died."""

    id: str
    rows: int
    dead_rows: int

    @property
    def live_rows(self) -> int:
        """What a merge would write."""
        return self.rows - self.dead_rows


def due(sizes: Sequence[SegmentSize]) -> tuple[str, ...]:
    """The segments to merge into one now, in the order given; empty when none need it.

    Segments of one tier (live rows within a factor of TIER_FACTOR) merge once there are
    TIER_FACTOR of them, smallest tier first; a tier below takes part when it can. Otherwise
    every segment that is dead past MAX_DEAD_SHARE is rewritten.
    """
    tiers: dict[int, list[SegmentSize]] = defaultdict(list)
    for size in sizes:
        tiers[_tier(size.live_rows)].append(size)
    smaller: list[SegmentSize] = []
    for tier in sorted(tiers):
        smaller += tiers[tier]
        if len(tiers[tier]) >= TIER_FACTOR:
            chosen = {size.id for size in smaller}
            return tuple(size.id for size in sizes if size.id in chosen)
    return tuple(size.id for size in sizes if size.dead_rows > size.rows * MAX_DEAD_SHARE)


def _tier(rows: int) -> int:
    tier, bound = 0, SMALLEST_TIER_ROWS
    while rows > bound:
        tier, bound = tier + 1, bound * TIER_FACTOR
    return tier
