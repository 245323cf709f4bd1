"""Parquet files without a commit log as a table: what changed is told by comparing all rows."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import SchemaMismatch, SourceChanged
from pipelines.sources.columns import fingerprint, metadata_types
from pipelines.sources.conforming import conform, read_types, text_columns
from pipelines.sources.fingerprints import as_version, is_same_state, short_id
from pipelines.sources.keys import collect_hashes
from pipelines.sources.listing import Listing, ParquetFolder, ParquetPart
from pipelines.sources.partitions import partition_columns
from pipelines.sources.protocol import ColumnMapping, Snapshot
from vector_index.passages import Lag, MetadataType, SourceVersion

_BATCH_ROWS = 1024
# Of rows that each may hold a whole document.
_DOCUMENT_ROWS = 64


class ParquetSource:
    """A Parquet file, a folder of them, or a prefix in an object store; partitioned or not.

    Its version is no counter but a name: the first 52 bits of a SHA-256 over all files. Two
    versions are equal or they are not; which is newer they do not say.
    """

    def __init__(
        self, location: str, mapping: ColumnMapping, *, options: Mapping[str, str] | None = None
    ) -> None:
        """location: a path or URL. options: as deltalake's storage_options, for a URL."""
        self.mapping = mapping
        self._folder = ParquetFolder(location, options or {}, strings=text_columns(mapping))

    def metadata_types(self) -> dict[str, MetadataType]:
        """The filterable type of each mapped metadata column. Raises SchemaMismatch."""
        types = _types(self._folder.listing(), self.mapping)
        return metadata_types(pa.schema(list(types.items())), self.mapping)

    def version(self) -> SourceVersion:
        """The files as they are now: listed, and no more than new footers read.

        Raises TableNotFound, SourceUnreadable, SchemaMismatch.
        """
        return _version(self._folder.listing(), self.mapping)

    def lag(self, indexed: SourceVersion) -> Lag:
        """Seconds since the newest file was written, of files that `indexed` does not name.

        A removed file leaves no time behind: then the age is that of what is left.
        """
        now = self.version()
        if is_same_state(now, indexed):
            return Lag(0, 0.0)
        return Lag(None, max(0.0, (datetime.now(UTC) - now.committed_at).total_seconds()))

    def snapshot(self) -> "ParquetSnapshot":
        """The files as they are now. Raises SchemaMismatch."""
        return ParquetSnapshot(self._folder, self._folder.listing(), self.mapping)

    def changed_keys(self, since: SourceVersion, to: Snapshot) -> None:
        """None: files do not say what changed in them."""
        return None


class ParquetSnapshot:
    """Exactly the files of one listing; a file that is another by now raises SourceChanged."""

    def __init__(self, folder: ParquetFolder, listing: Listing, mapping: ColumnMapping) -> None:
        self.version = _version(listing, mapping)
        self._folder = folder
        self._listing = listing
        self.mapping = mapping
        self._types = _types(listing, mapping)

    def hashes(self) -> dict[str, str]:
        """Key to content hash of all mapped columns.

        Raises BadKeys, FileUnreadable, and SourceChanged where the files are not, at the end,
        those that were listed: then no state of the table was seen whole.
        """
        hashes = collect_hashes(self.rows(None), self.mapping, self._folder.location)
        self.check_same()
        return hashes

    def check_same(self) -> None:
        """Raises SourceChanged where the files are not, by now, those that were listed."""
        if self._folder.listing().fingerprint != self._listing.fingerprint:
            raise SourceChanged(
                f"files were added or removed at {self._folder.location} while it was read; "
                f"sync again"
            )

    def rows(self, keys: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        """The mapped columns of the rows with these keys, at most 1,024 rows a batch."""
        wanted = None if keys is None else pa.array(sorted(keys), pa.string())
        for part in self._listing.parts:
            with self._folder.opened(part.file) as parquet:
                yield from self._part_rows(parquet, part, wanted)

    def _part_rows(
        self, parquet: pq.ParquetFile, part: ParquetPart, wanted: pa.Array | None
    ) -> Iterator[pa.RecordBatch]:
        constants = partition_columns(part.file.path, self._listing.partitions)
        yield from matching_rows(parquet, self._types, self.mapping.key, wanted, constants)


def matching_rows(
    parquet: pq.ParquetFile,
    types: Mapping[str, pa.DataType],
    key: str,
    wanted: pa.Array | None,
    constants: Mapping[str, pa.Scalar],
) -> Iterator[pa.RecordBatch]:
    """The rows of a file whose key is wanted, all where `wanted` is None, as `types`.

    Row groups that hold no wanted key are passed over after their key column.
    constants: columns that are not in the file, each one value.
    """
    for group in range(parquet.num_row_groups):
        if wanted is not None and not _holds_any(parquet, group, types, key, wanted, constants):
            continue
        for batch in _group_rows(parquet, group, types, constants):
            if wanted is not None:
                batch = batch.filter(pc.is_in(batch.column(key), value_set=wanted))
            if batch.num_rows:
                yield batch


def _holds_any(
    parquet: pq.ParquetFile,
    group: int,
    types: Mapping[str, pa.DataType],
    key: str,
    wanted: pa.Array,
    constants: Mapping[str, pa.Scalar],
) -> bool:
    keys = _group_rows(parquet, group, {key: types[key]}, constants)
    return any(pc.any(pc.is_in(batch.column(key), value_set=wanted)).as_py() for batch in keys)


def _group_rows(
    parquet: pq.ParquetFile,
    group: int,
    types: Mapping[str, pa.DataType],
    constants: Mapping[str, pa.Scalar],
) -> Iterator[pa.RecordBatch]:
    stored = [name for name in types if name not in constants]
    rows = _DOCUMENT_ROWS if pa.large_binary() in types.values() else _BATCH_ROWS
    for batch in parquet.iter_batches(rows, row_groups=[group], columns=stored):
        for name in types:
            if name in constants:
                batch = batch.append_column(name, pa.repeat(constants[name], batch.num_rows))
        yield conform(batch, types)


def _version(listing: Listing, mapping: ColumnMapping) -> SourceVersion:
    return SourceVersion(
        table_id=short_id("parquet", listing.url),
        version=as_version(listing.fingerprint),
        schema_fingerprint=fingerprint(pa.schema(list(_types(listing, mapping).items())), mapping),
        committed_at=listing.newest_at,
    )


def _types(listing: Listing, mapping: ColumnMapping) -> dict[str, pa.DataType]:
    """What each column is read as; every file must have it, and as a like type."""
    agreed: dict[str, pa.DataType] | None = None
    for part in listing.parts:
        where = f"{listing.url}: {part.file.path}"
        schema = pa.schema([*part.schema, *listing.partitions])
        types = read_types(schema, mapping, where)
        for name, arrow in (agreed or types).items():
            if types[name] != arrow:
                raise SchemaMismatch(
                    f"{where}: column {name!r} is {types[name]}, in {listing.parts[0].file.path} "
                    f"it is {arrow}; all files of a table have the same columns"
                )
        agreed = agreed or types
    assert agreed is not None
    return agreed
