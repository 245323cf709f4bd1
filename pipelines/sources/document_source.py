"""A table whose text is in documents: PDFs and the like in a column, or files that it names.

    rows: the documents as they are, or their paths and marks --parsed--> rows with text

Only what is to be indexed is parsed; hashes are those of the bytes, or of path and mark.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from pipelines.errors import DocumentUnreadable
from pipelines.sources.columns import MARKED_PATH
from pipelines.sources.document_folder import DocumentFolder, FolderListing
from pipelines.sources.documents import DocumentParser, ParserLimits, check_installed
from pipelines.sources.keys import collect_hashes
from pipelines.sources.parquet import ParquetSnapshot
from pipelines.sources.protocol import ChangedKeys, ColumnMapping, Doubt, Snapshot, TableSource
from vector_index.passages import Lag, MetadataType, SourceVersion

_FILES = "+files:"


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A row whose document gave no text. shown: its path, or how large the document is."""

    key: str
    error: DocumentUnreadable
    shown: str


class DocumentSource:
    """A TableSource over another one, whose mapping says `text_from` bytes or paths.

    With paths a version names the files below the folder too, so a document that is replaced is
    noticed though the table is not touched; then all rows are compared, which reads no file.
    """

    def __init__(
        self,
        table: TableSource,
        *,
        folder: DocumentFolder | None = None,
        limits: ParserLimits = ParserLimits(),
    ) -> None:
        """folder: what paths are below; None for bytes."""
        assert (table.mapping.text_from == "paths") == (folder is not None)
        self._table = table
        self._folder = folder
        self._limits = limits

    @property
    def mapping(self) -> ColumnMapping:
        """Which columns mean what."""
        return self._table.mapping

    def metadata_types(self) -> dict[str, MetadataType]:
        """The filterable type of each mapped metadata column. Raises SchemaMismatch."""
        return self._table.metadata_types()

    def version(self) -> SourceVersion:
        """The table's newest version, with the files as they were listed last."""
        version = self._table.version()
        return version if self._folder is None else _with(version, self._folder.listing())

    def lag(self, indexed: SourceVersion) -> Lag:
        """As the table's; of files that changed, the age of the newest."""
        table, files = _parted(indexed)
        lag = self._table.lag(table)
        if self._folder is None or lag != Lag(0, 0.0):
            return lag
        listing = self._folder.listing()
        if listing.fingerprint == files:
            return lag
        return Lag(None, max(0.0, (datetime.now(UTC) - listing.newest_at).total_seconds()))

    def snapshot(self) -> "DocumentSnapshot":
        """The newest version, pinned, and the files as they are now. Raises MissingExtra."""
        check_installed()
        listing = None if self._folder is None else self._folder.listing(is_fresh=True)
        return DocumentSnapshot(self._table.snapshot(), self._folder, listing, self._limits)

    def changed_keys(self, since: SourceVersion, to: Snapshot) -> ChangedKeys | Doubt | None:
        """As the table's; which rows the files belong to that changed is not known."""
        assert isinstance(to, DocumentSnapshot)
        table, files = _parted(since)
        if self._folder is not None and files != _parted(to.version)[1]:
            return Doubt(f"files below {self._folder.location} have changed")
        return self._table.changed_keys(table, to.table)


class DocumentSnapshot:
    """A pinned version of a table and of the folder its documents are in."""

    def __init__(
        self,
        table: Snapshot,
        folder: DocumentFolder | None,
        listing: FolderListing | None,
        limits: ParserLimits,
    ) -> None:
        self.table = table
        self.mapping = table.mapping
        self.version = table.version if listing is None else _with(table.version, listing)
        self._folder = folder
        self._listing = listing
        self._limits = limits

    def hashes(self) -> Mapping[str, str]:
        """Key to content hash of every row; of its document, the bytes or path and mark."""
        if self._folder is None:
            return self.table.hashes()
        found = collect_hashes(self.rows(None), self.mapping, self.version.table_id)
        if isinstance(self.table, ParquetSnapshot):
            self.table.check_same()
        return found

    def rows(self, keys: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        """The mapped columns of the rows with these keys; documents as they are, paths marked."""
        for batch in self.table.rows(keys):
            yield batch if self._folder is None else _replaced(batch, self.mapping.text,
                                                               self._marked(batch))  # fmt: skip

    def parsed(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[Unparsed, ...]]:
        """Rows of `rows` with their text in place of the document, and those that have none.

        A null is an empty text. Raises SourceUnreadable where an object store does not answer.
        """
        texts: list[str] = []
        failed: dict[int, Unparsed] = {}
        keys = batch.column(self.mapping.key).to_pylist()
        with DocumentParser(self._limits) as parser:
            for place, held in enumerate(batch.column(self.mapping.text)):
                try:
                    texts.append(self._text(held, parser))
                except DocumentUnreadable as exc:
                    texts.append("")
                    failed[place] = Unparsed(keys[place], exc, _shown(held))
        made = _replaced(batch, self.mapping.text, pa.array(texts, pa.large_string()))
        if failed:
            good = [place for place in range(batch.num_rows) if place not in failed]
            made = made.take(pa.array(good, pa.int64()))
        return made, tuple(failed.values())

    def _text(self, held: pa.Scalar, parser: DocumentParser) -> str:
        value = held.as_py()
        if self._folder is None:
            return parser.text(value or b"")
        assert self._listing is not None
        path = value["path"]
        return "" if path is None else parser.text(self._folder.read(path, self._listing))

    def _marked(self, batch: pa.RecordBatch) -> pa.Array:
        assert self._folder is not None
        assert self._listing is not None
        # Names on a disk may be any bytes; what is no UTF-8 is no file of the listing.
        column = batch.column(self.mapping.text)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        held = column.cast(pa.large_string(), safe=False).cast(pa.large_binary()).to_pylist()
        paths = [None if one is None else one.decode("utf-8", "backslashreplace") for one in held]
        marks = [None if one is None else self._folder.mark(one, self._listing) for one in paths]
        arrays = [pa.array(paths, pa.string()), pa.array(marks, pa.string())]
        return pa.StructArray.from_arrays(arrays, fields=list(MARKED_PATH))


def _replaced(batch: pa.RecordBatch, column: str, values: pa.Array) -> pa.RecordBatch:
    at = batch.schema.get_field_index(column)
    return batch.set_column(at, pa.field(column, values.type), values)


def _shown(held: pa.Scalar) -> str:
    value = held.as_py()
    return f"{len(value):,} bytes" if isinstance(value, bytes) else str(value["path"])


def _with(version: SourceVersion, listing: FolderListing) -> SourceVersion:
    marked = f"{version.schema_fingerprint}{_FILES}{listing.fingerprint}"
    return replace(version, schema_fingerprint=marked)


def _parted(version: SourceVersion) -> tuple[SourceVersion, str]:
    """The table's own version, and the fingerprint of the files; empty where there is none."""
    table, _, files = version.schema_fingerprint.partition(_FILES)
    return replace(version, schema_fingerprint=table), files
