"""A batch: what was asked, how far it is, and its folder on disk.

<folder>/batch_<24 hex>/batch.json      replaced whole
<folder>/batch_<24 hex>/output.jsonl    lines that were answered with 200, appended
<folder>/batch_<24 hex>/errors.jsonl    the others
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from gateway.openai.errors import BatchUnknown
from gateway.openai.file_store import ordered_hex, sync_folder, write_synced

_ID = re.compile(r"batch_[0-9a-f]{24}")

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling",
    "cancelled",
]  # fmt: skip
ENDED: tuple[Status, ...] = ("failed", "completed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a file was not taken. line: from 1, None for the file as a whole."""

    code: str
    message: str
    line: int | None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """As it is kept; times are Unix seconds, by the status that began then.

    ends_as: what it will be once it has been finalized.
    """

    id: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    status: Status = "validating"
    metadata: Mapping[str, str] | None = None
    times: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[LineError, ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    ends_as: Status = "completed"

    def form(self) -> dict[str, object]:
        """As OpenAI shows it."""
        moments = ("in_progress", "finalizing", *ENDED, "cancelling")
        errors = {"object": "list", "data": [asdict(error) for error in self.errors]}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": errors if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{f"{moment}_at": self.times.get(moment) for moment in moments},
            "request_counts": {
                "total": self.total, "completed": self.completed, "failed": self.failed
            },
            "metadata": self.metadata,
        }  # fmt: skip


class BatchStore:
    """Batches on disk. Methods block on it: not for the event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, batch_id: str) -> Path:
        """Where its lines are kept. Raises BatchUnknown for what is no id."""
        if not _ID.fullmatch(batch_id):
            raise BatchUnknown(batch_id)
        return self._folder / batch_id

    def save(self, batch: Batch) -> None:
        """It is on the disk, whole, when this returns."""
        folder = self.folder(batch.id)
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
            sync_folder(self._folder)
        draft = folder / "batch.json.part"
        write_synced(draft, orjson.dumps(asdict(batch)))
        draft.replace(folder / "batch.json")
        sync_folder(folder)

    def all(self) -> list[Batch]:
        """Every batch; a folder that a killed process had only begun is removed."""
        found = []
        for folder in self._folder.glob("batch_*"):
            try:
                form = orjson.loads((folder / "batch.json").read_bytes())
            except FileNotFoundError:
                shutil.rmtree(folder)
                continue
            errors = tuple(LineError(**error) for error in form.pop("errors"))
            found.append(Batch(**form, errors=errors))
        return sorted(found, key=lambda batch: batch.id)


def new_batch_id() -> str:
    return f"batch_{ordered_hex()}"
