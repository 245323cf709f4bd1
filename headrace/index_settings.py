"""The sections of headrace.yaml that say what an index is, and where it and its table are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, SecretStr, Tag, model_validator

from headrace.model_settings import Section
from headrace.settings_file import ConfigPath, beside_the_file
from vector_index.kinds.protocol import KindName

# vector_index.passages.MetadataType, whose module loads pyarrow.
ColumnType = Literal["string", "int", "float", "bool", "timestamp", "date", "strings"]


def _path_or_url(location: str) -> str:
    return location if "://" in location else str(beside_the_file(Path(location)))


Location = Annotated[str, AfterValidator(_path_or_url)]
"""A URL, or a path as `ConfigPath`."""


class SourceSettings(Section):
    """The table behind an index: at `path`, or what `sql` says of `tables`.

    path, tables: folders or URLs of Delta tables; with `format: parquet`, path is one of Parquet
    files. tables: by the names that the SQL uses. options: for URLs, as deltalake takes them.
    """

    path: Location | None = None
    format: Literal["delta", "parquet"] = "delta"
    sql: str | None = None
    tables: dict[str, Location] = Field(default_factory=dict)
    options: dict[str, SecretStr] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_table(self) -> "SourceSettings":
        if (self.path is None) == (self.sql is None):
            raise ValueError("give either path, or sql with the tables it names")
        if (self.sql is None) == bool(self.tables):
            raise ValueError("tables go with sql, and sql needs them")
        return self


class DocumentSection(Section):
    """Documents such as PDFs instead of a text column; needs the extra `documents`.

    column: of the documents themselves, or, where a folder is given, of their paths below it.
    folder: a path or URL; options: for a URL, as deltalake takes them. look_every_s: how often it
    is listed for changed files. timeout_s, memory_mb: what parsing one document may take.
    """

    column: str
    folder: Location | None = None
    options: dict[str, SecretStr] = Field(default_factory=dict)
    look_every_s: float = Field(10.0, ge=0)
    timeout_s: float = Field(60.0, gt=0)
    memory_mb: int = Field(4096, ge=256)


class MilvusSection(Section):
    """A Milvus server that keeps an index, or a file ending in .db that milvus-lite keeps it in."""

    uri: str
    token: SecretStr | None = None
    database: str = ""
    timeout_s: float = Field(10.0, gt=0)


class IndexBase(Section):
    """What every index has: an embedder, and how passages are cut and stored.

    memory_mb: what the kind `auto` may use for vectors, in 10^6 bytes; None is no limit.
    max_text_bytes: of one document.
    """

    embedder: str
    kind: KindName | Literal["auto"] = "auto"
    memory_mb: int | None = Field(None, ge=1)
    max_tokens: int = Field(200, ge=16, le=8192)
    max_text_bytes: int = Field(10_000_000, ge=1)


class IndexSection(IndexBase):
    """Which columns of the source mean what, and how they are read and kept in step.

    gpu: the card of `gpus` that a server scans the vectors on; None for the CPU.
    milvus: where the index is kept instead of in the state folder.
    vector: a column of float lists, used in place of the embedder for documents.
    text_format: how `text` is written; HTML and Markdown are indexed as the text they show.
    document: where the text is in documents; in place of `text`.
    verify_every_s: how often `headrace serve` proves the index against its table; None for never.
    quality: rules for rows, see docs/sync.md.
    sync: whether `headrace serve` syncs new commits itself, or leaves that to whoever calls sync.
    """

    source: SourceSettings
    key: str
    title: str
    text: str | None = None
    document: DocumentSection | None = None
    metadata: tuple[str, ...] = ()
    tenant: str | None = None
    groups: str | None = None
    updated_at: str | None = None
    gpu: int | None = None
    milvus: MilvusSection | None = None
    vector: str | None = None
    # pipelines.sources.protocol.TextFormat, whose package loads deltalake.
    text_format: Literal["plain", "markdown", "html"] = "plain"
    quality: tuple[dict[str, Any], ...] = ()
    sync: Literal["watch", "manual"] = "manual"
    verify_every_s: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _has_one_text(self) -> "IndexSection":
        if (self.text is None) == (self.document is None):
            raise ValueError("give either text, a column, or document")
        if self.document is not None and self.text_format != "plain":
            raise ValueError("text_format goes with text; what a document is, its content tells")
        return self

    @property
    def text_column(self) -> str:
        """The column that passages are cut from."""
        column = self.text if self.document is None else self.document.column
        assert column is not None
        return column


class DirectIndexSection(IndexBase):
    """An index without a table: `source: direct`. Its documents come over HTTP.

    metadata: the columns that filters may name, with their types. tenant, groups: whether
    documents say who may see them. flush_every_s: when changes, searchable at once in the server,
    become a generation that other processes see.
    """

    source: Literal["direct"]
    metadata: dict[str, ColumnType] = Field(default_factory=dict)
    tenant: bool = False
    groups: bool = False
    flush_every_s: float = Field(5.0, gt=0)


def _kind_of_index(form: object) -> str:
    source = form.get("source") if isinstance(form, Mapping) else getattr(form, "source", None)
    return "direct" if source == "direct" else "table"


AnyIndexSection = Annotated[
    Annotated[IndexSection, Tag("table")] | Annotated[DirectIndexSection, Tag("direct")],
    Discriminator(_kind_of_index),
]
"""An index that follows a table, or one that is written to."""


class GpuSection(Section):
    """A card, by its number; memory_mb: what indexes may copy to it, in 10^6 bytes."""

    memory_mb: int = Field(ge=1)


class LineageSection(Section):
    """Where OpenLineage events go: a server's URL, or a file that lines are added to."""

    url: str | None = None
    api_key: SecretStr | None = None
    file: ConfigPath | None = None
    namespace: str = "headrace"

    @model_validator(mode="after")
    def _is_one_place(self) -> "LineageSection":
        if (self.url is None) == (self.file is None):
            raise ValueError("give either url or file")
        return self
