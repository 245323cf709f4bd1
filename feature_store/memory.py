"""The small honest feature store: a dictionary with event times."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from feature_store.errors import UnknownView
from feature_store.features import FeatureRow, Value, feature


@dataclass(frozen=True, slots=True)
class View:
    """Rows by key: event time and values by feature name. `names` are what a row can hold."""

    names: tuple[str, ...]
    rows: Mapping[str, tuple[datetime, Mapping[str, Value]]]
    ttl: timedelta | None = None


class InMemoryFeatures:
    """A FeatureReader over views handed to it."""

    def __init__(
        self, views: Mapping[str, View], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._views = views
        self._now = now

    def read(self, view: str, keys: Sequence[str]) -> tuple[FeatureRow, ...]:
        if view not in self._views:
            raise UnknownView(f"unknown feature view {view!r}; known: {', '.join(self._views)}")
        held, now = self._views[view], self._now()
        return tuple(
            {
                name: feature(
                    view, key, name, held.rows[key][1].get(name) if key in held.rows else None,
                    event_time=held.rows[key][0] if key in held.rows else None,
                    now=now, ttl=held.ttl,
                )
                for name in held.names
            }
            for key in keys
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is open."""
