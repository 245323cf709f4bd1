"""The tables a query reads: Delta or Parquet, each pinned at one state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError
from deltalake.fs import DeltaStorageHandler

from pipelines.errors import (
    SchemaMismatch,
    SourceChanged,
    SourceUnreadable,
    TableNotFound,
    TableNotSupported,
)
from pipelines.sources.delta_log import DeltaLog
from pipelines.sources.delta_snapshot import check_readable, newest_commit
from pipelines.sources.listing import Listing, ParquetFolder
from pipelines.sources.messages import in_one_line
from pipelines.sources.objects import ObjectFiles

_VIEWS = {
    pa.string(): pa.string_view(),
    pa.large_string(): pa.string_view(),
    pa.binary(): pa.binary_view(),
    pa.large_binary(): pa.binary_view(),
}


@dataclass(frozen=True, slots=True)
class PinnedInput:
    """A table at one state. `identity` differs whenever its rows or columns may.

    version: of a Delta table, None for Parquet, whose earlier states cannot be read.
    """

    identity: str
    committed_at: datetime
    dataset: ds.Dataset
    version: int | None = None


class DeltaInput:
    """A Delta table, pinned at its newest version or at an earlier one."""

    def __init__(self, location: str, options: Mapping[str, str]) -> None:
        self._location = location
        self._options = dict(options)

    def pin(self, version: int | None = None) -> PinnedInput:
        """The table as it is now, or at that version.

        Raises TableNotFound, TableNotSupported, SourceUnreadable.
        """
        with _translated(self._location):
            table = DeltaTable(self._location, version, storage_options=self._options)
            check_readable(table, self._location)
            at = newest_commit(DeltaLog(self._location, self._options), table).committed_at
            identity = f"delta {table.metadata().id} {table.version()} {at.isoformat()}"
            dataset = _unpushed(table.to_pyarrow_dataset())
            return PinnedInput(identity, at, dataset, table.version())

    def check_same(self, pinned: PinnedInput) -> None:
        """Nothing: what a version holds stays as it is."""


class ParquetInput:
    """A Parquet file or folder, pinned at its files as they are listed."""

    def __init__(self, location: str, options: Mapping[str, str]) -> None:
        self._options = dict(options)
        self._folder = ParquetFolder(location, options)

    def pin(self) -> PinnedInput:
        """Raises TableNotFound, SourceUnreadable, and SchemaMismatch unless all files are alike."""
        listing = self._folder.listing()
        _check_alike(listing)
        dataset = ds.dataset(
            [part.file.path for part in listing.parts],
            filesystem=self._filesystem(listing),
            format="parquet",
            schema=None,
            partitioning=ds.HivePartitioning(listing.partitions),
        )
        return PinnedInput(_identity(listing), listing.newest_at, dataset)

    def check_same(self, pinned: PinnedInput) -> None:
        """Raises SourceChanged where the files are not those that were pinned."""
        if _identity(self._folder.listing()) != pinned.identity:
            raise SourceChanged(
                f"files changed at {self._folder.location} while the query ran; sync again"
            )

    def _filesystem(self, listing: Listing) -> pa_fs.FileSystem:
        path = Path(self._folder.location)
        if "://" not in self._folder.location:
            folder = path.parent if path.is_file() else path
            return pa_fs.SubTreeFileSystem(str(folder.resolve()), pa_fs.LocalFileSystem())
        url = listing.url
        if len(listing.parts) == 1 and url.endswith(f"/{listing.parts[0].file.path}"):
            url = url.rpartition("/")[0]
        return pa_fs.PyFileSystem(DeltaStorageHandler(url, self._options))


def open_input(location: str, options: Mapping[str, str]) -> DeltaInput | ParquetInput:
    """The table at a path or URL: Delta where it has a log, else Parquet."""
    return (DeltaInput if _has_log(location, options) else ParquetInput)(location, options)


def _has_log(location: str, options: Mapping[str, str]) -> bool:
    if "://" not in location:
        return (Path(location) / "_delta_log").is_dir()
    # Not DeltaTable.is_deltatable, which lets no other thread run until the store has answered.
    return ObjectFiles(location, options).has_folder("_delta_log")


def _unpushed(dataset: ds.FileSystemDataset) -> ds.Dataset:
    """The same rows, of which DuckDB compares text itself.

    It would have Arrow do so, which fails (arrow 26) on files that say string_view where the
    dataset says string, as deltalake's merge writes them. Of string_view it expects no such help.
    """
    fields = [field.with_type(_VIEWS.get(field.type, field.type)) for field in dataset.schema]
    return ds.FileSystemDataset(
        list(dataset.get_fragments()), pa.schema(fields), dataset.format, dataset.filesystem
    )


def _identity(listing: Listing) -> str:
    return f"parquet {listing.url} {listing.fingerprint}"


def _check_alike(listing: Listing) -> None:
    """A dataset fills a column that a file lacks with nulls, without a word."""
    first = listing.parts[0]
    for part in listing.parts:
        if part.schema != first.schema:
            raise SchemaMismatch(
                f"{listing.url}: {part.file.path} has other columns or types than "
                f"{first.file.path}; all files of a table have the same"
            )


@contextmanager
def _translated(location: str) -> Iterator[None]:
    try:
        yield
    except DeltaProtocolError as exc:
        raise TableNotSupported(f"{location} cannot be read: {in_one_line(exc)}") from exc
    except DeltaError as exc:
        if "not found" in str(exc).lower() or "no files in log" in str(exc).lower():
            raise TableNotFound(f"no table at {location}; check the index's source") from exc
        raise SourceUnreadable(f"{location} cannot be read: {in_one_line(exc)}") from exc
    except OSError as exc:
        raise SourceUnreadable(f"{location} cannot be read: {in_one_line(exc)}") from exc
