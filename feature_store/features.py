"""What a feature is when it is read, and who can read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

Value = str | int | float | bool | datetime | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Feature:
    """One fact about one key.

    age_s: seconds since the fact was true (its event time); None for a key nobody knows.
    is_stale: older than its view's ttl. is_present: false for an unknown key; value is then None.
    """

    view: str
    key: str
    name: str
    value: Value
    age_s: float | None
    is_stale: bool
    is_present: bool


FeatureRow = Mapping[str, Feature]


class FeatureReader(Protocol):
    """Online features by key. Safe to call from several threads at once."""

    def read(self, view: str, keys: Sequence[str]) -> tuple[FeatureRow, ...]:
        """The features of each key, by name, in the order of `keys`.

        Raises UnknownView, or FeatureStoreUnavailable.
        """
        ...

    def close(self) -> None:
        """Frees connections. Calling it twice is fine."""
        ...


def feature(
    view: str,
    key: str,
    name: str,
    value: Value,
    *,
    event_time: datetime | None,
    now: datetime,
    ttl: timedelta | None,
) -> Feature:
    """A Feature with its age at `now`; event_time None means that the key is unknown."""
    if event_time is None:
        return Feature(view, key, name, None, None, is_stale=False, is_present=False)
    age = now - event_time
    is_stale = ttl is not None and age > ttl
    return Feature(view, key, name, value, age.total_seconds(), is_stale, is_present=True)
