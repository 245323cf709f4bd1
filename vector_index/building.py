"""Making an index, and making it anew under other settings beside the live one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.errors import EmbedderMismatch, IndexExists
from vector_index.generation import read_current
from vector_index.manifest import IndexSettings
from vector_index.options import WriterOptions
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Base,
    IndexDelta,
    IndexVersion,
    SourceVersion,
    empty_delta,
    passage_schema,
)
from vector_index.staging import StagedParts, forget_staged
from vector_index.view import View
from vector_index.writer import IndexWriter

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

# Passages per call of the embedder.
_BATCH = 1024


def create(home: Path, settings: IndexSettings, source: SourceVersion) -> IndexVersion:
    """Publishes an empty first generation. Raises IndexExists when there is one already."""
    _check_is_free(home)  # before its settings are compared with these
    with IndexWriter(home, settings) as writer:
        _check_is_free(home)
        empty = empty_delta(settings.metadata_columns, settings.embedder.dim)
        return writer.publish(empty, source)


def rebuild(
    home: Path,
    settings: IndexSettings,
    *,
    embed: Embed | None = None,
    content: tuple[IndexDelta, SourceVersion] | None = None,
    options: WriterOptions | None = None,
) -> IndexVersion:
    """Publishes a generation made under `settings` that shares nothing with the live one.

    The live one serves until the new one is complete, and stays for a rollback; vectors of two
    embedders are never in one generation. content: everything the index is to hold, with its
    table version; None takes what is indexed now, with the stored vectors, or with those that
    `embed` makes of the stored texts, which a new embedder needs. Raises EmbedderMismatch where
    it is missing, InvalidDelta where the content does not fit the settings, IndexNotFound,
    IndexBusy, WriteFailed.
    """
    with IndexWriter(home, None, options=options) as writer:
        writer.flush()
        view = writer.view()
        if content is None:
            content = (_stored(view, settings, embed), view.version.source)
        return writer.replace_all(settings, *content)


def staging(home: Path, settings: IndexSettings, wanted: Mapping[str, str]) -> StagedParts:
    """As `SyncedIndex.staging`, of a rebuild: all the index is to hold, under these settings.

    `publish` is then `rebuild` of it, and raises what that raises.
    """

    def publish(delta: IndexDelta, source: SourceVersion, base: Base) -> IndexVersion:
        version = rebuild(home, settings, content=(delta, source))
        forget_staged(home)
        return version

    return StagedParts(home, settings, wanted, publish)


def _check_is_free(home: Path) -> None:
    if read_current(home) is not None:
        raise IndexExists(f"there is an index in {home} already; remove it to begin anew")


def _stored(view: View, settings: IndexSettings, embed: Embed | None) -> IndexDelta:
    old, new = view.settings.embedder, settings.embedder
    if embed is None and old != new:
        raise EmbedderMismatch(
            f"the stored vectors were made by {old.id} (dim {old.dim}), the index is to use "
            f"{new.id} (dim {new.dim}); give an embedder to make them anew"
        )
    sequence = view.version.sequence
    contents = [part.content(part.alive(sequence)) for part in view.parts]
    schema = passage_schema(view.settings.metadata_columns)
    passages = pa.concat_tables([schema.empty_table(), *(c.passages for c in contents)])
    vectors = [c.vectors for c in contents] if embed is None else _embedded(passages, embed)
    return IndexDelta(
        documents=pa.concat_tables(
            [DOCUMENT_SCHEMA.empty_table(), *(c.documents for c in contents)]
        ),
        passages=passages,
        vectors=np.concatenate(vectors or [np.empty((0, new.dim), np.float32)]),
        removed=frozenset(),
    )


def _embedded(passages: pa.Table, embed: Embed) -> list[NDArray[np.float32]]:
    texts = passages["text"]
    batches = range(0, len(texts), _BATCH)
    return [embed(texts.slice(first, _BATCH).to_pylist()) for first in batches]
