"""Proof that an index equals its table: every key and content hash compared, drift re-applied.

    source.snapshot() --hashes--+
                                +--> Drift --repair--> the keys re-applied, compared once more
    index.documents() ----------+

What is compared is the table's newest version. An index that is behind it is not wrong for that:
keys touched since are pending, and every other difference is drift.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeVar

from pipelines.errors import IndexBehind
from vector_index.passages import IndexVersion, SourceVersion

_NOTHING: Mapping[str, str] = MappingProxyType({})
# An index that publishes each time it is looked at is being written to: say so, do not spin.
_LOOKS = 5


class HashedSnapshot(Protocol):
    """What of a pinned snapshot is compared."""

    @property
    def version(self) -> SourceVersion:
        """Which version it is."""

    def hashes(self) -> Mapping[str, str]:
        """Key to content hash of every row. Raises BadKeys."""


class ListedIndex(Protocol):
    """What of an index is compared."""

    def version(self) -> IndexVersion:
        """The live generation. Raises IndexNotFound."""

    def documents(self) -> Mapping[str, str]:
        """Document id to content hash of everything indexed."""


S = TypeVar("S", bound=HashedSnapshot)
Touched = Callable[[SourceVersion, S], Collection[str] | None]
"""The keys touched after a version and up to the snapshot; None where that is not known."""

Apply = Callable[[frozenset[str], frozenset[str]], object]
"""Writes the first keys anew out of the snapshot, embedding their text again, and removes the
second ones, in one generation of the version that the index already has."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Where an index differs from its table; keys are sorted.

    missing: rows that are not indexed. extra: documents that are no rows. changed: indexed with
    other content. indexed, version: the table versions of the index and of the snapshot. checked:
    how many keys were compared. waiting: of these, touched since `indexed`, thus not judged.
    quarantined: of these, missing because they are set aside as they are.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: tuple[str, ...]
    indexed: SourceVersion
    version: SourceVersion
    checked: int
    waiting: frozenset[str]
    quarantined: int

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs that should not."""
        return not (self.missing or self.extra or self.changed)

    def keys(self) -> frozenset[str]:
        """Every key that differs."""
        return frozenset((*self.missing, *self.extra, *self.changed))

    def report(self, *, examples: int = 5) -> "DriftReport":
        """The counts, and at most so many keys of each sort."""
        return DriftReport(
            is_equal=self.is_equal,
            indexed_version=self.indexed.version,
            table_version=self.version.version,
            checked=self.checked,
            missing=len(self.missing),
            extra=len(self.extra),
            changed=len(self.changed),
            pending=len(self.waiting),
            quarantined=self.quarantined,
            missing_examples=self.missing[:examples],
            extra_examples=self.extra[:examples],
            changed_examples=self.changed[:examples],
        )


@dataclass(frozen=True, slots=True)
class DriftReport:
    """A Drift in bounded size, to be printed, logged or sent. pending: how many keys wait."""

    is_equal: bool
    indexed_version: int
    table_version: int
    checked: int
    missing: int
    extra: int
    changed: int
    pending: int
    quarantined: int
    missing_examples: tuple[str, ...]
    extra_examples: tuple[str, ...]
    changed_examples: tuple[str, ...]


def compare(
    snapshot: HashedSnapshot,
    index: ListedIndex,
    *,
    pending: Collection[str] = (),
    set_aside: Mapping[str, str] = _NOTHING,
) -> Drift:
    """Every key and content hash of the table against those of the index.

    pending: keys touched since the index's version: not judged. set_aside: key to row hash of
    what is in quarantine; such a row is not missing as long as it is the same row. In memory are
    the keys and hashes of both sides, no row. Raises BadKeys, IndexNotFound, and IndexBehind
    where the index does not hold still.
    """
    indexed, found = _listed(index)
    table = snapshot.hashes()
    waiting = frozenset(pending)
    missing, changed, aside = [], [], 0
    for key, value in table.items():
        known = found.get(key)
        if known == value or key in waiting:
            continue
        if known is not None:
            changed.append(key)
        elif set_aside.get(key) == value:
            aside += 1
        else:
            missing.append(key)
    extra = [key for key in found if key not in table and key not in waiting]
    both = sum(key in table for key in found)
    return Drift(
        missing=tuple(sorted(missing)),
        extra=tuple(sorted(extra)),
        changed=tuple(sorted(changed)),
        indexed=indexed,
        version=snapshot.version,
        checked=len(table) + len(found) - both,
        waiting=frozenset(key for key in waiting if key in table or key in found),
        quarantined=aside,
    )


def compare_newest(
    snapshot: Callable[[], S],
    index: ListedIndex,
    touched: Touched[S],
    *,
    set_aside: Mapping[str, str] = _NOTHING,
) -> tuple[S, Drift]:
    """As `compare`, with the newest snapshot and whatever is pending in it.

    snapshot: takes one, as `TableSource.snapshot` does. Raises IndexBehind where the index is
    behind and nobody knows by which keys: sync first, then verify.
    """
    for _ in range(_LOOKS):
        # The index first: a snapshot taken afterwards cannot be older.
        indexed, pinned = index.version().source, snapshot()
        pending: Collection[str] | None = ()
        if indexed != pinned.version:
            pending = touched(indexed, pinned)
        if pending is None:
            raise IndexBehind(
                f"the index is at table version {indexed.version}, the table at "
                f"{pinned.version.version}, and its log does not say what changed in between; "
                f"sync the index, then verify it"
            )
        drift = compare(pinned, index, pending=pending, set_aside=set_aside)
        if drift.indexed == indexed:
            return pinned, drift
    raise _restless()


def repair(
    snapshot: HashedSnapshot,
    index: ListedIndex,
    drift: Drift,
    apply: Apply,
    *,
    faulty: Collection[str] = (),
    set_aside: Mapping[str, str] = _NOTHING,
) -> Drift:
    """Re-applies the keys that differ, and says what still differs then.

    snapshot: the one that `drift` was found with: its values are those of the index's own version
    too, as no such key was touched since. faulty: keys whose content is wrong though their hash
    is right, as `inspection.inspect` finds them. Raises what `apply` and `compare` raise.
    """
    write = frozenset((*drift.missing, *drift.changed, *faulty)) - frozenset(drift.extra)
    if write or drift.extra:
        apply(write, frozenset(drift.extra))
    return compare(snapshot, index, pending=drift.waiting, set_aside=set_aside)


def _listed(index: ListedIndex) -> tuple[SourceVersion, Mapping[str, str]]:
    """What is indexed, with the one version that has it."""
    for _ in range(_LOOKS):
        before = index.version()
        found = index.documents()
        if index.version() == before:
            return before.source, found
    raise _restless()


def _restless() -> IndexBehind:
    return IndexBehind(
        f"the index published {_LOOKS} times while it was being read; verify it again when fewer "
        f"changes arrive"
    )
