"""Indexes out of settings: where each is kept, what it is made of, and the table behind it."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import SecretStr

from headrace.index_settings import DocumentSection, IndexSection
from headrace.settings import Settings, section_named
from headrace.settings_file import InvalidSettings
from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker, token_chunker
from pipelines.sources import ColumnMapping, DeltaSource, TableSource
from pipelines.sources.document_folder import DocumentFolder
from pipelines.sources.document_source import DocumentSource
from pipelines.sources.documents import ParserLimits
from pipelines.sources.protocol import TextFrom
from pipelines.sources.text import text_recipe
from vector_index.errors import NeverPublished
from vector_index.generation import published, read_current
from vector_index.gpu import Device, open_device
from vector_index.layer import Placing
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.milvus import MilvusIndex, MilvusPlace, settings_in_milvus
from vector_index.passages import EmbedderIdentity, IndexVersion, MetadataType
from vector_index.protocol import SyncedIndex


def index_section(settings: Settings, name: str) -> IndexSection:
    """The section of an index. Raises InvalidSettings listing the known ones."""
    return section_named(settings.indexes, name, "index")


def build_source(settings: Settings, index: str) -> TableSource:
    """The table behind an index, and the documents that it names."""
    section = index_section(settings, index)
    table = _build_table(settings, section)
    if section.document is None:
        return table
    memory_bytes = section.document.memory_mb * 1_000_000
    return DocumentSource(
        table,
        folder=_folder(section.document),
        limits=ParserLimits(section.document.timeout_s, memory_bytes),
    )


def build_chunker(settings: Settings, index: str, embedder: Embedder) -> Chunker:
    """The splitter of an index, counting the embedder's own tokens."""
    section = index_section(settings, index)
    return token_chunker(embedder.info.tokenizer_file, section.max_tokens)


def build_index(settings: Settings, name: str, embedder: Embedder) -> SyncedIndex:
    """The index as its table has it now, to be written to. Raises PipelineError."""
    return _open(settings, name, table_index_settings(settings, name, embedder), None)


def open_index(
    settings: Settings, name: str, embedder: Embedder, *, place: Placing | None = None
) -> SyncedIndex:
    """The index as it was published, to be searched: its table may be gone.

    Before the first publish the table says which columns there are. place: where its segments are
    scanned, None for the CPU. Raises PipelineError.
    """
    built = built_settings(settings, name)
    if built is None:
        made = table_index_settings(settings, name, embedder)
    else:
        made = _index_settings(settings, name, embedder, dict(built.metadata_columns))
    return _open(settings, name, made, place)


def published_index(settings: Settings, name: str) -> SyncedIndex:
    """The index as it was made, whatever the settings say of its making.

    Raises IndexNotFound before the first publish.
    """
    built = built_settings(settings, name)
    if built is None:
        raise NeverPublished(name)
    return _open(settings, name, built, None)


def built_settings(settings: Settings, name: str) -> IndexSettings | None:
    """What the live generation was made of, None before the first publish."""
    section = index_section(settings, name)
    if section.milvus is not None:
        return settings_in_milvus(_milvus_place(section), name)
    manifest = published(_home(settings, name))
    return None if manifest is None else manifest.settings


def published_state(settings: Settings, name: str) -> tuple[IndexVersion, int, int]:
    """The live version with its documents and passages; on disk, read off the manifest alone.

    Raises IndexNotFound before the first publish.
    """
    if index_section(settings, name).milvus is not None:
        index = published_index(settings, name)
        return (index.version(), *index.count())
    manifest = published(_home(settings, name))
    if manifest is None:
        raise NeverPublished(name)
    return manifest.version(), manifest.documents, manifest.passages


def table_index_settings(settings: Settings, name: str, embedder: Embedder) -> IndexSettings:
    """What the index is to be made of, with its table's columns as they are now.

    Raises PipelineError.
    """
    columns = build_source(settings, name).metadata_types()
    return _index_settings(settings, name, embedder, columns)


def index_home(settings: Settings, name: str) -> Path:
    """The folder of an index that is kept on disk. Raises InvalidSettings for another."""
    if index_section(settings, name).milvus is not None:
        raise InvalidSettings(
            f"index {name!r} is kept in Milvus, which has no generations to look at or go back to; "
            f"`headrace index status`, `search`, `scan` and `sync` work with it"
        )
    return _home(settings, name)


def published_home(settings: Settings, name: str) -> Path:
    """As `index_home`, of an index with a live generation, damaged or not.

    Raises IndexNotFound too.
    """
    home = index_home(settings, name)
    if read_current(home) is None:
        raise NeverPublished(name)
    return home


def open_gpus(settings: Settings) -> dict[int, Device]:
    """The cards that indexes name, to be closed after use. Raises GpuUnavailable."""
    wanted = sorted({s.gpu for s in settings.indexes.values() if s.gpu is not None})
    return {
        number: open_device(number, memory_bytes=settings.gpus[number].memory_mb * 1_000_000)
        for number in wanted
    }


def _build_table(settings: Settings, section: IndexSection) -> TableSource:
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
        text_from=_text_from(section),
    )
    source = section.source
    options = _revealed(source.options)
    if source.sql is not None:
        from pipelines.sources.sql import SqlSource

        scratch = settings.state_dir / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        return SqlSource(source.sql, source.tables, mapping, options=options, scratch=scratch)
    assert source.path is not None
    if source.format == "parquet":
        from pipelines.sources.parquet import ParquetSource

        return ParquetSource(source.path, mapping, options=options)
    return DeltaSource(source.path, mapping, storage_options=options or None)


def _text_from(section: IndexSection) -> TextFrom:
    if section.document is None:
        return "text"
    return "bytes" if section.document.folder is None else "paths"


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


def _open(settings: Settings, name: str, made: IndexSettings, place: Placing | None) -> SyncedIndex:
    section = index_section(settings, name)
    if section.milvus is not None:
        return MilvusIndex(_milvus_place(section), made)
    return LocalIndex(_home(settings, name), made, place=place)


def _home(settings: Settings, name: str) -> Path:
    return settings.state_dir / "indexes" / name


def _milvus_place(section: IndexSection) -> MilvusPlace:
    assert section.milvus is not None
    token = section.milvus.token
    return MilvusPlace(
        uri=section.milvus.uri,
        token="" if token is None else token.get_secret_value(),
        database=section.milvus.database,
        timeout_s=section.milvus.timeout_s,
    )


def _index_settings(
    settings: Settings, name: str, embedder: Embedder, columns: dict[str, MetadataType]
) -> IndexSettings:
    section, info = index_section(settings, name), embedder.info
    return IndexSettings(
        name=name,
        kind=section.kind,
        embedder=EmbedderIdentity(info.id, info.weights_sha256, info.dim),
        chunking={
            "max_tokens": section.max_tokens,
            **text_recipe(section.text_format, _text_from(section)),
        },
        metadata_columns=columns,
        has_tenant=section.tenant is not None,
        has_groups=section.groups is not None,
        memory_bytes=None if section.memory_mb is None else section.memory_mb * 1_000_000,
    )
