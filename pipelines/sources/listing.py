"""The Parquet files of a table as they were at one moment, and reading exactly those."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import (
    FileUnreadable,
    SchemaMismatch,
    SourceChanged,
    SourceUnreadable,
    TableNotFound,
)
from pipelines.sources.files import FileStore, StoredFile
from pipelines.sources.location import open_files
from pipelines.sources.partitions import partition_of, partition_schema

_SUFFIXES = (".parquet", ".pq")
# Without it a row group's column is read whole: as large as the file, where it has one group.
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """One file with what its footer says. `schema` is without the partition columns."""

    file: StoredFile
    schema: pa.Schema
    footer_sha256: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All files of a table at one moment, by path, and the columns of their folder names."""

    url: str
    parts: tuple[ParquetPart, ...]
    partitions: pa.Schema

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every file's path, size, tag and footer: equal only for equal content."""
        digest = hashlib.sha256()
        for part in self.parts:
            file = part.file
            entry = (file.path, file.size_bytes, file.tag, part.footer_sha256)
            digest.update(repr(entry).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def newest_at(self) -> datetime:
        """When the newest file was written."""
        return max(part.file.modified_at for part in self.parts)


class ParquetFolder:
    """A file, a folder or a prefix of Parquet files, partitioned by folder names or not.

    Files named `*.parquet` or `*.pq` are the table; others, and those hidden by a leading `.` or
    `_`, are not, so that a writer can write beside and rename.
    """

    def __init__(
        self, location: str, options: Mapping[str, str], *, strings: Collection[str] = ()
    ) -> None:
        """options: as deltalake's storage_options. strings: partition columns that stay strings."""
        self.location = location
        self._options = options
        self._strings = strings
        self._store: FileStore | None = None
        self._known: Mapping[StoredFile, ParquetPart] = {}

    def store(self) -> FileStore:
        """Where the files are. Raises SourceUnreadable."""
        if self._store is None:
            self._store = open_files(self.location, self._options)
        return self._store

    def listing(self) -> Listing:
        """The files as they are now; only footers of files not seen before are read.

        Raises TableNotFound, FileUnreadable, SchemaMismatch, SourceChanged, SourceUnreadable.
        """
        found = list(self.store().files())
        files = sorted((f for f in found if f.path.endswith(_SUFFIXES)), key=lambda f: f.path)
        if not files:
            others = f"; {len(found)} files have other names" if found else ""
            raise TableNotFound(f"no .parquet files at {self.location}{others}")
        known = self._known
        parts = tuple(known.get(file) or self._part(file) for file in files)
        self._known = {part.file: part for part in parts}
        partitions = partition_schema((f.path for f in files), strings=self._strings)
        return Listing(self.store().url, parts, partitions)

    @contextmanager
    def opened(self, file: StoredFile) -> Iterator[pq.ParquetFile]:
        """The file, to be read inside; leaving raises SourceChanged if it is another by then.

        Raises FileUnreadable where what is read is no Parquet, SourceChanged where it is gone.
        """
        try:
            with self.store().open(file.path) as handle:
                yield pq.ParquetFile(handle, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except FileNotFoundError as exc:
            raise self._changed(file, "is gone") from exc
        except PermissionError as exc:
            raise SourceUnreadable(
                f"{self.location}: {file.path} cannot be read: {_line(exc)}"
            ) from exc
        except (pa.ArrowException, OSError) as exc:
            # A file that was replaced while it was read is no damaged one.
            self._check_same(file)
            raise FileUnreadable(
                f"{self.location}: {file.path} is no complete Parquet file: it is being written, "
                f"was cut off, or is damaged ({_line(exc)}); write under another name and rename"
            ) from exc
        self._check_same(file)

    def _part(self, file: StoredFile) -> ParquetPart:
        _check_named_once(file.path)
        with self.opened(file) as parquet:
            schema = parquet.schema_arrow.remove_metadata()
            sink = pa.BufferOutputStream()
            parquet.metadata.write_metadata_file(sink)
        for name in partition_of(file.path):
            if name in schema.names:
                raise SchemaMismatch(
                    f"{self.location}: column {name!r} stands both in {file.path} and in its "
                    f"folder's name; which is right cannot be told, so leave it out of one"
                )
        return ParquetPart(file, schema, hashlib.sha256(sink.getvalue()).hexdigest())

    def _check_same(self, file: StoredFile) -> None:
        now = self.store().look(file.path)
        if now is None:
            raise self._changed(file, "is gone")
        if (now.tag, now.size_bytes) != (file.tag, file.size_bytes):
            raise self._changed(file, "is another file")

    def _changed(self, file: StoredFile, what: str) -> SourceChanged:
        return SourceChanged(
            f"{self.location}: {file.path} {what} since it was listed; nothing was taken from it, "
            f"sync again"
        )


def _check_named_once(path: str) -> None:
    names = [part.split("=", 1)[0] for part in path.split("/")[:-1] if "=" in part]
    if len(set(names)) < len(names):
        raise SchemaMismatch(f"{path} names a partition column twice")


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200]
