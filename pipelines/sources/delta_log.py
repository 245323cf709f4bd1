"""The commits of a Delta table as files: which is the newest, and what each says it did.

Only the small JSON files of `_delta_log` are read, through deltalake's own object store, so it
works wherever the table does. deltalake itself does not tell an empty commit file from a commit,
nor that the feed of changes was off for a while, nor that a table was recreated under its name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow.fs as pa_fs
from deltalake.fs import DeltaStorageHandler

from pipelines.errors import SourceUnreadable

# commitInfo, which has the time of the commit, stands in the first line of most writers.
_HEAD_BYTES = 4096
_RESTORES = frozenset({"RESTORE", "CLONE"})


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit says of itself. operation: None where it does not say.

    changes_table: it sets the schema, properties or protocol. changes_rows: it adds, removes or
    changes rows; OPTIMIZE and VACUUM do not.
    """

    version: int
    operation: str | None
    committed_at: datetime
    is_empty: bool
    changes_table: bool
    changes_rows: bool

    def doubt(self) -> str | None:
        """Why the feed cannot be trusted across this commit, None where it can."""
        if self.operation is None:
            return f"commit {self.version} does not say what it did (no commitInfo)"
        if self.operation.upper() in _RESTORES:
            return f"commit {self.version} is a {self.operation}"
        if self.changes_table:
            return f"commit {self.version} ({self.operation}) changes schema or properties"
        return None


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells a commit file from another of the same name, after a table was recreated."""

    version: int
    size_bytes: int | None
    modified_ns: int | None
    head: bytes


class DeltaLog:
    """The `_delta_log` of one table, by its path or URI. Holds nothing open."""

    def __init__(self, table: str, storage_options: Mapping[str, str]) -> None:
        handler = DeltaStorageHandler(table, dict(storage_options) or None)
        self._files = pa_fs.PyFileSystem(handler)

    def mark(self, version: int) -> Mark | None:
        """The commit's mark, None where its file is not there."""
        path = _path(version)
        (info,) = self._files.get_file_info([path])
        if info.type != pa_fs.FileType.File:
            return None
        with self._files.open_input_file(path) as file:
            return Mark(version, info.size, info.mtime_ns, file.read(_HEAD_BYTES))

    def is_newest(self, mark: Mark) -> bool:
        """Whether the marked commit is still there, and the newest: lists nothing but these two."""
        (after,) = self._files.get_file_info([_path(mark.version + 1)])
        return after.type != pa_fs.FileType.File and self.mark(mark.version) == mark

    def commit(self, version: int) -> Commit | None:
        """What the commit says; None where its file is gone, as clean-up makes it.

        Raises SourceUnreadable where the file is not JSON.
        """
        path = _path(version)
        (info,) = self._files.get_file_info([path])
        if info.type != pa_fs.FileType.File:
            return None
        with self._files.open_input_file(path) as file:
            content = file.read()
        written = datetime.fromtimestamp((info.mtime_ns or 0) / 1e9, UTC)
        try:
            return _commit(version, content, written)
        except (ValueError, AttributeError, TypeError) as exc:
            raise SourceUnreadable(
                f"commit {path} is not whole ({exc}); a writer died in it: remove the file, or "
                f"restore it, then sync again"
            ) from exc


def _path(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


def _commit(version: int, content: bytes, written: datetime) -> Commit:
    actions = [json.loads(line) for line in content.splitlines() if line.strip()]
    info: dict[str, object] = {}
    kinds: set[str] = set()
    changes_rows = False
    for action in actions:
        kinds |= action.keys()
        info = action.get("commitInfo") or info
        changes_rows |= any(
            (action.get(kind) or {}).get("dataChange", False) for kind in ("add", "remove")
        )
    return Commit(
        version=version,
        operation=str(info["operation"]) if "operation" in info else None,
        committed_at=_moment(info.get("timestamp")) or written,
        is_empty=not actions,
        changes_table=bool(kinds & {"metaData", "protocol"}),
        changes_rows=changes_rows or "cdc" in kinds,
    )


def _moment(milliseconds: object) -> datetime | None:
    """None for what is no time of any calendar: a clock may say anything."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)  # type: ignore[operator]
    except (TypeError, ValueError, OverflowError, OSError):
        return None
