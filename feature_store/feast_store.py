"""Features from a plain Feast repository. Importing Feast takes seconds, so this file is lazy."""

import contextlib
import importlib
import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from feast import FeatureStore
from feast.errors import FeastError, FeatureServiceNotFoundException
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.Value_pb2 import Value as ValueProto

from feature_store.errors import (
    ApplyFailed,
    FeaturesNotApplied,
    FeatureStoreUnavailable,
    UnknownView,
)
from feature_store.features import FeatureRow, Value, feature

_KNOWN = (FieldStatus.PRESENT, FieldStatus.NULL_VALUE)


@dataclass(frozen=True, slots=True)
class _View:
    join_key: str
    names: tuple[str, ...]
    references: list[str]
    ttl: timedelta | None


class FeastFeatures:
    """A FeatureReader over one feature service, whose views have one join key each."""

    def __init__(
        self, repo: Path, service: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Raises FeaturesNotApplied when the registry does not have the service."""
        self._now = now
        # SQLite connections and Feast's caches are not made for several threads.
        self._lock = threading.Lock()
        self._store = _open(repo)
        self._views = _views(self._store, service)

    def read(self, view: str, keys: Sequence[str]) -> tuple[FeatureRow, ...]:
        if view not in self._views:
            known = ", ".join(sorted(self._views))
            raise UnknownView(f"unknown feature view {view!r}; the service has: {known}")
        if not keys:
            return ()
        wanted = self._views[view]
        with self._lock:
            try:
                proto = self._store.get_online_features(
                    wanted.references, [{wanted.join_key: key} for key in keys]
                ).proto
            except Exception as exc:
                # Feast lets its stores' own errors through: any driver's exception can come here.
                raise FeatureStoreUnavailable(f"cannot read {view}: {exc}") from exc
        vectors = dict(zip(proto.metadata.feature_names.val, proto.results, strict=True))
        now = self._now()
        rows: list[FeatureRow] = []
        for position, key in enumerate(keys):
            row = {}
            for name in wanted.names:
                vector = vectors[name]
                # Feast applies no ttl to online reads: age is ours to judge.
                is_known = vector.statuses[position] in _KNOWN
                moment = vector.event_timestamps[position].ToDatetime(UTC) if is_known else None
                value = _python(vector.values[position])
                row[name] = feature(
                    view, key, name, value, event_time=moment, now=now, ttl=wanted.ttl
                )
            rows.append(row)
        return tuple(rows)

    def close(self) -> None:
        """Feast keeps its connections until the process ends."""


def apply(repo: Path) -> str:
    """Runs Feast's own `feast apply` on the repository; returns what it printed.

    A process of its own, because Feast changes the working folder and imports every file of
    the repository. Raises ApplyFailed with Feast's last line.
    """
    feast = [sys.executable, "-m", "feast.cli.cli", "--chdir", str(repo), "apply"]
    done = subprocess.run(feast, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise ApplyFailed(f"feast apply in {repo} failed: {reason}")
    return done.stdout.strip()


def _open(repo: Path) -> FeatureStore:
    with warnings.catch_warnings():
        # Feast looks into its store for Milvus at the first read, whatever store is used; where
        # pymilvus is installed its settings then warn about themselves.
        warnings.filterwarnings("ignore", 'Field name "vector_enabled"', UserWarning)
        with contextlib.suppress(ImportError):
            importlib.import_module("feast.infra.online_stores.milvus_online_store.milvus")
        return FeatureStore(repo_path=str(repo))


def materialize(repo: Path, since: datetime, until: datetime) -> None:
    """Loads every view's newest rows with event times in (since, until] into the online store.

    Raises FeaturesNotApplied, or FeatureStoreUnavailable naming what could not be read.
    """
    store = _open(repo)
    if not store.list_feature_views():
        raise FeaturesNotApplied(f"{repo} was never applied; run `headrace features apply`")
    try:
        # Feast prints its progress to standard output, which may be somebody's JSON.
        with contextlib.redirect_stdout(io.StringIO()):
            store.materialize(since, until)
    except Exception as exc:
        # As in `read`: the offline store's own errors come through Feast as they are.
        raise FeatureStoreUnavailable(f"cannot materialize {repo}: {exc}") from exc


def _views(store: FeatureStore, service: str) -> dict[str, _View]:
    try:
        projections = store.get_feature_service(service).feature_view_projections
    except (FeatureServiceNotFoundException, FileNotFoundError) as exc:
        raise FeaturesNotApplied(
            f"feature service {service!r} is not in the registry; "
            "run `headrace features apply`, then `headrace features materialize`"
        ) from exc
    except FeastError as exc:
        raise FeatureStoreUnavailable(f"cannot read the feature registry: {exc}") from exc
    views = {}
    for projection in projections:
        definition = store.get_feature_view(projection.name)
        names = tuple(field.name for field in projection.features)
        views[projection.name] = _View(
            definition.entity_columns[0].name,
            names,
            [f"{projection.name}:{name}" for name in names],
            definition.ttl,
        )
    return views


def _python(value: ValueProto) -> Value:
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    held = getattr(value, kind)
    if kind == "unix_timestamp_val":
        return datetime.fromtimestamp(held, UTC)
    if kind.endswith("_list_val"):
        return tuple(held.val)
    return cast(Value, held)
