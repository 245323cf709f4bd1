"""The table behind an index out of settings, and the documents that it names."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import SecretStr

from headrace.index_settings import DocumentSection, IndexSection
from pipelines.sources import ColumnMapping, DeltaSource, TableSource
from pipelines.sources.document_folder import DocumentFolder
from pipelines.sources.document_source import DocumentSource
from pipelines.sources.documents import ParserLimits
from pipelines.sources.protocol import TextFrom


def table_source(section: IndexSection, scratch: Path) -> TableSource:
    """What an index is kept equal to. scratch: a folder for temporary files, made if needed."""
    table = _build_table(section, scratch)
    if section.document is None:
        return table
    memory_bytes = section.document.memory_mb * 1_000_000
    return DocumentSource(
        table,
        folder=_folder(section.document),
        limits=ParserLimits(section.document.timeout_s, memory_bytes),
    )


def text_from(section: IndexSection) -> TextFrom:
    """What the text column holds."""
    if section.document is None:
        return "text"
    return "bytes" if section.document.folder is None else "paths"


def _build_table(section: IndexSection, scratch: Path) -> TableSource:
    mapping = ColumnMapping(
        key=section.key,
        title=section.title,
        text=section.text_column,
        metadata=section.metadata,
        tenant=section.tenant,
        groups=section.groups,
        updated_at=section.updated_at,
        vector=section.vector,
        text_format=section.text_format,
        text_from=text_from(section),
    )
    source = section.source
    options = _revealed(source.options)
    if source.sql is not None:
        from pipelines.sources.sql import SqlSource

        scratch.mkdir(parents=True, exist_ok=True)
        return SqlSource(source.sql, source.tables, mapping, options=options, scratch=scratch)
    assert source.path is not None
    if source.format == "parquet":
        from pipelines.sources.parquet import ParquetSource

        return ParquetSource(source.path, mapping, options=options)
    return DeltaSource(source.path, mapping, storage_options=options or None)


def _folder(section: DocumentSection) -> DocumentFolder | None:
    if section.folder is None:
        return None
    options = tuple(sorted(_revealed(section.options).items()))
    return _shared_folder(section.folder, options, section.look_every_s)


@lru_cache(maxsize=64)
def _shared_folder(
    location: str, options: tuple[tuple[str, str], ...], look_every_s: float
) -> DocumentFolder:
    """One for all that read a folder in this process: they see the same listing, made once."""
    return DocumentFolder(location, dict(options), look_every_s=look_every_s)


def _revealed(options: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in options.items()}
