"""Rows that could not be indexed, kept in a Delta table beside the index until they can be.

    <state>/quarantine/<index>    one row a key; `resolved_at` is null while it is open

A Delta commit is there whole or not at all, whoever is killed, and the table is readable by
anyone's tools. The text of a row is kept only while it is open; `clean` takes it off the disk.
"""

import fcntl
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pipelines.errors import QuarantineFailed
from pipelines.reasons import Reason
from pipelines.shown import as_text, shown_row
from pipelines.sources.messages import in_one_line

_log = logging.getLogger(__name__)

_MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("table_id", pa.string(), nullable=False),
        pa.field("table_version", pa.int64(), nullable=False),
        pa.field("row_hash", pa.string()),
        pa.field("row", pa.string()),
        pa.field("quarantined_at", _MOMENT, nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("resolved_at", _MOMENT),
    ]
)
# The log keeps the least and greatest value of a column, for years: never of a row's text.
_PROPERTIES = {"delta.dataSkippingStatsColumns": "table_version"}
_DETAIL_BYTES = 2_000
# Two processes that merge at once: one of them is told to read again.
_COMMITS = 8
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row to set aside. row_hash: its content hash, by which it is known to be the same again.

    row: whatever is known of it, or the offending text; kept as JSON, cut to a bound.
    """

    key: str
    reason: Reason
    detail: str
    table_id: str
    table_version: int
    row_hash: str | None = None
    row: Mapping[str, object] | str | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that is set aside. attempts: how often it has failed; row: JSON, cut to a bound."""

    key: str
    reason: str
    detail: str
    table_id: str
    table_version: int
    row_hash: str | None
    row: str | None
    quarantined_at: datetime
    attempts: int
    resolved_at: datetime | None


class Quarantine:
    """The quarantine of one index. Each call opens the table anew: safe from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, rows: Sequence[Rejection]) -> None:
        """Sets these rows aside, in one commit; of two of one key the later one counts.

        A key that was there has one attempt more, and is open again. Raises QuarantineFailed.
        """
        if not rows:
            return
        made = _table(rows, datetime.now(UTC))
        updates = {name: f"s.{name}" for name in SCHEMA.names if name not in ("key", "attempts")}
        with self._changing():
            if self._open() is None:
                self._create()
            self._merge(
                made,
                update={**updates, "attempts": "t.attempts + 1"},
                insert={name: f"s.{name}" for name in SCHEMA.names},
            )

    def resolve(self, keys: Collection[str]) -> None:
        """Closes these: they are indexed, or gone from the table. Unknown keys change nothing.

        What is kept of the row itself is nulled. Raises QuarantineFailed.
        """
        closing = sorted(self.held().keys() & set(keys))
        if not closing:
            return
        moments = pa.array([datetime.now(UTC)] * len(closing), _MOMENT)
        source = pa.table({"key": pa.array(closing, pa.string()), "resolved_at": moments})
        with self._changing():
            self._merge(source, update={"resolved_at": "s.resolved_at", "row": "NULL"}, insert=None)

    def open(self, *, limit: int | None = None) -> list[Quarantined]:
        """What is set aside now, by key, the first `limit` of it. Raises QuarantineFailed."""
        found = self._read(SCHEMA.names)
        order = pc.sort_indices(found["key"])[:limit]
        return [Quarantined(**row) for row in found.take(order).to_pylist()]

    def held(self) -> dict[str, str | None]:
        """Key to row hash of what is set aside: the same row again need not be tried again."""
        found = self._read(["key", "row_hash"])
        return dict(zip(found["key"].to_pylist(), found["row_hash"].to_pylist(), strict=True))

    def held_as(self) -> dict[str, str]:
        """As `held`, without rows whose hash is not known."""
        return {key: value for key, value in self.held().items() if value is not None}

    def due(
        self, *, reasons: Collection[Reason] | None = None, max_attempts: int | None = None
    ) -> list[str]:
        """The keys to be tried again, sorted.

        reasons: which to take; None takes those that may pass with nothing changed, as an
        embedder that failed may answer the next time. max_attempts: what failed so often is left.
        """
        wanted = frozenset(reasons if reasons is not None else [r for r in Reason if r.may_pass])
        found = self._read(["key", "reason", "attempts"]).to_pylist()
        return sorted(
            row["key"]
            for row in found
            if row["reason"] in wanted and (max_attempts is None or row["attempts"] < max_attempts)
        )

    def clean(self) -> None:
        """Takes everything off the disk but the rows that are open: text that was resolved, and
        what killed processes had written and not committed.

        Not while others read the table: a reader of an earlier state loses its files.
        """
        if self._open() is None:
            return
        with self._changing():
            table = self._open()
            assert table is not None
            try:
                table.delete("resolved_at IS NOT NULL")
                # Zero hours: what is resolved is to be gone, not to be there for a week. `full`
                # would take files that another process is about to commit: none is, see above.
                table.vacuum(
                    retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True
                )
            except (DeltaError, OSError) as exc:
                raise self._failed("cleaned", exc) from exc

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One at a time among the processes of this machine; whoever dies lets go."""
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(self._folder.parent / f".{self._folder.name}.lock", os.O_CREAT, 0o600)
        except OSError as exc:
            raise self._failed("locked", exc) from exc
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def _open(self) -> DeltaTable | None:
        try:
            return DeltaTable(str(self._folder))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as exc:
            raise self._failed("opened", exc) from exc

    def _create(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_deltalake(
                str(self._folder), SCHEMA.empty_table(), mode="ignore", configuration=_PROPERTIES
            )
        except CommitFailedError:
            return  # another process has made it
        except (DeltaError, OSError) as exc:
            raise self._failed("created", exc) from exc

    def _read(self, columns: list[str]) -> pa.Table:
        table = self._open()
        if table is None:
            return SCHEMA.empty_table().select(columns)
        try:
            return table.to_pyarrow_dataset().to_table(
                columns=columns, filter=pc.field("resolved_at").is_null()
            )
        except (DeltaError, OSError, pa.ArrowException) as exc:
            raise self._failed("read", exc) from exc

    def _merge(
        self, source: pa.Table, *, update: dict[str, str], insert: dict[str, str] | None
    ) -> None:
        for attempt in range(_COMMITS):
            table = self._open()
            assert table is not None
            merge = table.merge(
                source, "s.key = t.key", source_alias="s", target_alias="t"
            ).when_matched_update(update)
            if insert is not None:
                merge = merge.when_not_matched_insert(insert)
            try:
                merge.execute()
                return
            except CommitFailedError as exc:
                if attempt == _COMMITS - 1:
                    raise self._failed("written", exc) from exc
                time.sleep(_PAUSE_S * 2**attempt)
            except (DeltaError, OSError) as exc:
                raise self._failed("written", exc) from exc

    def _failed(self, done: str, exc: Exception) -> QuarantineFailed:
        return QuarantineFailed(
            f"the quarantine {self._folder} cannot be {done}: {in_one_line(exc)}; free the disk or "
            f"mend the folder; with the folder removed every row in it is tried again"
        )


def _table(rows: Sequence[Rejection], now: datetime) -> pa.Table:
    latest = {row.key: row for row in rows}
    columns: dict[str, list[object]] = {
        "key": [as_text(row.key) for row in latest.values()],
        "reason": [row.reason.value for row in latest.values()],
        "detail": [as_text(row.detail, size_bytes=_DETAIL_BYTES) for row in latest.values()],
        "table_id": [row.table_id for row in latest.values()],
        "table_version": [row.table_version for row in latest.values()],
        "row_hash": [row.row_hash for row in latest.values()],
        "row": [None if row.row is None else shown_row(row.row) for row in latest.values()],
        "quarantined_at": [now] * len(latest),
        "attempts": [1] * len(latest),
        "resolved_at": [None] * len(latest),
    }
    return pa.table(columns, schema=SCHEMA)
