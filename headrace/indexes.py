"""Indexes out of settings: where each is kept, what it is made of, and the table behind it."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from headrace.index_settings import DirectIndexSection, IndexSection, MilvusSection
from headrace.settings import Settings, section_named
from headrace.settings_file import InvalidSettings
from headrace.tables import table_source, text_from
from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker, token_chunker
from pipelines.direct import RESERVED
from pipelines.sources import TableSource
from pipelines.sources.text import text_recipe
from vector_index.building import create
from vector_index.errors import NeverPublished
from vector_index.generation import published, read_current
from vector_index.gpu import Device, open_device
from vector_index.layer import Placing
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.milvus import MilvusIndex, MilvusPlace, settings_in_milvus
from vector_index.passages import EmbedderIdentity, IndexVersion, MetadataType, SourceVersion
from vector_index.protocol import SyncedIndex


def index_section(settings: Settings, name: str) -> IndexSection:
    """The section of an index that follows a table.

    Raises InvalidSettings listing the known ones, and for an index that is written to.
    """
    section = any_section(settings, name)
    if isinstance(section, DirectIndexSection):
        raise InvalidSettings(
            f"index {name!r} follows no table (source: direct): a server writes what comes to "
            f"/indexes/{name}/upsert and /delete; `headrace index status`, `search`, `scan`, "
            f"`stats`, `history` and `verify` work with it"
        )
    return section


def any_section(settings: Settings, name: str) -> IndexSection | DirectIndexSection:
    """The section of an index, whatever feeds it. Raises InvalidSettings for an unknown one."""
    return section_named(settings.indexes, name, "index")


def build_source(settings: Settings, index: str) -> TableSource:
    """The table behind an index, and the documents that it names."""
    return table_source(index_section(settings, index), settings.state_dir / "scratch")


def build_chunker(settings: Settings, index: str, embedder: Embedder) -> Chunker:
    """The splitter of an index, counting the embedder's own tokens."""
    section = any_section(settings, index)
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
    if name in settings.direct_indexes:
        return _open(settings, name, direct_index_settings(settings, name, embedder), None)
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
    if milvus := _milvus(settings, name):
        return settings_in_milvus(_milvus_place(milvus), name)
    manifest = published(_home(settings, name))
    return None if manifest is None else manifest.settings


def published_state(settings: Settings, name: str) -> tuple[IndexVersion, int, int]:
    """The live version with its documents and passages; on disk, read off the manifest alone.

    Raises IndexNotFound before the first publish.
    """
    if _milvus(settings, name):
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


def direct_index_settings(settings: Settings, name: str, embedder: Embedder) -> IndexSettings:
    """What an index that is written to is made of. Raises InvalidSettings for a name in use."""
    section, info = settings.direct_indexes[name], embedder.info
    if taken := section.metadata.keys() & set(RESERVED):
        raise InvalidSettings(
            f"indexes.{name}.metadata: no column can be called {min(taken)!r}; "
            f"{', '.join(RESERVED)} are every document's own"
        )
    return IndexSettings(
        name=name,
        kind=section.kind,
        embedder=EmbedderIdentity(info.id, info.weights_sha256, info.dim),
        chunking={"max_tokens": section.max_tokens},
        metadata_columns=section.metadata,
        has_tenant=section.tenant,
        has_groups=section.groups,
        memory_bytes=_bytes(section.memory_mb),
    )


def create_direct(settings: Settings, name: str, embedder: Embedder) -> IndexVersion:
    """Publishes an empty first generation. Raises IndexExists when there is one already."""
    made = direct_index_settings(settings, name, embedder)
    # It has no table: what stands in its place never changes.
    source = SourceVersion(f"direct-{uuid4().hex[:12]}", 0, "direct", datetime.now(UTC))
    return create(index_home(settings, name), made, source)


def index_home(settings: Settings, name: str) -> Path:
    """The folder of an index that is kept on disk. Raises InvalidSettings for another."""
    if _milvus(settings, name):
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
    wanted = sorted({s.gpu for s in settings.table_indexes.values() if s.gpu is not None})
    return {
        number: open_device(number, memory_bytes=settings.gpus[number].memory_mb * 1_000_000)
        for number in wanted
    }


def _open(settings: Settings, name: str, made: IndexSettings, place: Placing | None) -> SyncedIndex:
    if milvus := _milvus(settings, name):
        return MilvusIndex(_milvus_place(milvus), made)
    return LocalIndex(_home(settings, name), made, place=place)


def _home(settings: Settings, name: str) -> Path:
    return settings.state_dir / "indexes" / name


def _milvus(settings: Settings, name: str) -> MilvusSection | None:
    section = any_section(settings, name)
    return section.milvus if isinstance(section, IndexSection) else None


def _milvus_place(section: MilvusSection) -> MilvusPlace:
    return MilvusPlace(
        uri=section.uri,
        token="" if section.token is None else section.token.get_secret_value(),
        database=section.database,
        timeout_s=section.timeout_s,
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
            **text_recipe(section.text_format, text_from(section)),
        },
        metadata_columns=columns,
        has_tenant=section.tenant is not None,
        has_groups=section.groups is not None,
        memory_bytes=_bytes(section.memory_mb),
    )


def _bytes(memory_mb: int | None) -> int | None:
    return None if memory_mb is None else memory_mb * 1_000_000
