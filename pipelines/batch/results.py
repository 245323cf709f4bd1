"""The results of a batch: a Delta table with one row a key, written in whole commits.

    <out>/_delta_log      the first commit holds the plan, as the table's description
    .<out>.lock           beside it: one run at a time writes

A commit is there whole or not at all, whoever is killed, so a run that goes on asks exactly the
rows whose keys are not there.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.batch.key_set import KeySet
from pipelines.batch.plan import BatchPlan
from pipelines.errors import BatchRefused
from pipelines.sources.messages import in_one_line

# deltalake refuses a property of a name that it does not know.
_PLAN = "headrace batch "
# The log would keep the least and greatest response of every file.
_STATISTICS: Mapping[str, str | None] = {"delta.dataSkippingStatsColumns": "key"}
# More than this many files are written together at the end.
_FEW_FILES = 16


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one row, or `error` in its place."""

    key: object
    response: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    error: str | None
    prompt_sha256: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the table holds. keys: of all rows."""

    keys: KeySet
    failed: int


class ResultTable:
    """The results at one folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def plan(self) -> BatchPlan | None:
        """What the results were begun with, None where there are none.

        Raises BatchRefused for a folder that holds something else.
        """
        table = self._open()
        if table is None:
            if _is_used(self.folder):
                raise BatchRefused(
                    f"{self.folder} is there and holds no results of a batch; name another --out"
                )
            return None
        told = table.metadata().description or ""
        if not told.startswith(_PLAN):
            raise BatchRefused(
                f"{self.folder} is a table that no batch has made; name another --out"
            )
        return BatchPlan.from_json(told.removeprefix(_PLAN))

    def create(self, plan: BatchPlan, key_type: pa.DataType) -> None:
        """An empty table with its plan, in one commit."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self._failing("created"):
            write_deltalake(
                str(self.folder),
                _schema(key_type).empty_table(),
                description=f"{_PLAN}{plan.to_json()}",
                configuration=_STATISTICS,
            )

    def remove(self) -> None:
        """Takes the results away; only what `plan` knows as such."""
        assert self.plan() is not None
        with self._failing("removed"):
            # The log goes first, so that a removal cut short never looks like results.
            shutil.rmtree(self.folder / "_delta_log")
            shutil.rmtree(self.folder)

    def append(self, results: Sequence[Result], model: str) -> None:
        """Adds these rows in one commit."""
        if not results:
            return
        with self._failing("written"):
            table = DeltaTable(str(self.folder))
            key_type = pa.schema(table.schema().to_arrow()).field("key").type
            write_deltalake(table, _rows(results, model, key_type), mode="append")

    def outcome(self) -> Outcome:
        """The keys that have a result."""
        keys, failed = KeySet(), 0
        with self._failing("read"):
            dataset = DeltaTable(str(self.folder)).to_pyarrow_dataset()
            for batch in dataset.to_batches(columns=["key", "error"], batch_readahead=2):
                keys.add(batch.column("key").to_pylist())
                failed += len(batch) - batch.column("error").null_count
        if twice := keys.close():
            raise BatchRefused(f"{self.folder} has {twice} keys twice: something else wrote to it")
        return Outcome(keys, failed)

    def forget_errors(self) -> None:
        """Takes out the rows that have an error, so that they are asked again."""
        with self._failing("written"):
            DeltaTable(str(self.folder)).delete("error IS NOT NULL")

    def tidy(self) -> None:
        """Writes many small files together; their rows stay the same."""
        with self._failing("written"):
            table = DeltaTable(str(self.folder))
            if len(table.file_uris()) > _FEW_FILES:
                table.optimize.compact()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it is held nobody else on this machine is. Raises BatchRefused where one is."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self.folder.parent / f".{self.folder.name}.lock"
        held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as exc:
            raise BatchRefused(f"another run is writing to {self.folder}; wait for it") from exc
        finally:
            os.close(held)

    def _open(self) -> DeltaTable | None:
        if not (self.folder / "_delta_log").is_dir():
            return None
        with self._failing("opened"):
            try:
                return DeltaTable(str(self.folder))
            except TableNotFoundError:
                return None

    @contextmanager
    def _failing(self, done: str) -> Iterator[None]:
        try:
            yield
        except (DeltaError, OSError, pa.ArrowException) as exc:
            raise BatchRefused(
                f"the results {self.folder} cannot be {done}: {in_one_line(exc)}"
            ) from exc


def _is_used(folder: Path) -> bool:
    """Whether anything is there that is not ours: a kill may leave a log without a commit."""
    if not folder.is_dir():
        return folder.exists()
    return any(entry.name != "_delta_log" for entry in folder.iterdir())


def _schema(key_type: pa.DataType) -> pa.Schema:
    return pa.schema(
        [
            pa.field("key", key_type, nullable=False),
            pa.field("response", pa.string()),
            pa.field("finish_reason", pa.string()),
            pa.field("prompt_tokens", pa.int64()),
            pa.field("completion_tokens", pa.int64()),
            pa.field("error", pa.string()),
            pa.field("model", pa.string(), nullable=False),
            pa.field("prompt_sha256", pa.string()),
            pa.field("answered_at", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    )


def _rows(results: Sequence[Result], model: str, key_type: pa.DataType) -> pa.Table:
    now = datetime.now(UTC)
    made = {
        "key": [one.key for one in results],
        "response": [_sound(one.response) for one in results],
        "finish_reason": [one.finish_reason for one in results],
        "prompt_tokens": [one.prompt_tokens for one in results],
        "completion_tokens": [one.completion_tokens for one in results],
        "error": [_sound(one.error) for one in results],
        "model": [model] * len(results),
        "prompt_sha256": [one.prompt_sha256 for one in results],
        "answered_at": [now] * len(results),
    }
    return pa.table(made, schema=_schema(key_type))


def _sound(text: str | None) -> str | None:
    """A lone surrogate, which a model may write, is no UTF-8 and would refuse the whole commit."""
    return None if text is None else text.encode("utf-8", "replace").decode()
