"""A real Delta table, a real index; the hashing embedder keeps count of what it embeds."""

import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.chunking import token_chunker
from pipelines.errors import BadKeys, SchemaMismatch, TableNotFound
from pipelines.sources import ColumnMapping, DeltaSource
from pipelines.sync import rebuild, sync
from vector_index.errors import EmbedderMismatch
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import Access, EmbedderIdentity

MAPPING = ColumnMapping("id", "title", "body", ("kind",), "tenant", "groups")
STAFF = Access("acme", frozenset({"staff"}))


class CountingEmbedder(HashingEmbedder):
    """The hashing embedder, with a record of every text it was given."""

    def __init__(self, dim=64):
        super().__init__(dim)
        self.texts = []

    def embed_passages(self, texts, *, on_progress=None):
        self.texts.extend(texts)
        return super().embed_passages(texts, on_progress=on_progress)


def rows(ids, body="original", kind="note"):
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "title": [f"title {i}" for i in ids],
            "body": [f"{body} words about number {i}" for i in ids],
            "kind": [kind] * len(ids),
            "tenant": ["acme"] * len(ids),
            "groups": pa.array([["staff"]] * len(ids), pa.list_(pa.string())),
        }
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table"
    write_deltalake(
        str(path),
        rows([str(i) for i in range(100)]),
        configuration={"delta.enableChangeDataFeed": "true"},
    )
    return path


@pytest.fixture
def world(table, tmp_path):
    embedder = CountingEmbedder()
    info = embedder.info
    source = DeltaSource(table, MAPPING)
    settings = IndexSettings(
        name="docs",
        kind="flat",
        embedder=EmbedderIdentity(info.id, info.weights_sha256, info.dim),
        chunking={"max_tokens": 50},
        metadata_columns=source.metadata_types(),
        has_tenant=True,
        has_groups=True,
    )
    index = LocalIndex(tmp_path / "index", settings)
    chunk = token_chunker(None, 50)
    return embedder, index, lambda: sync(source, index, embedder, chunk)


def upsert(path, changed):
    (
        DeltaTable(str(path))
        .merge(changed, "s.id = t.id", source_alias="s", target_alias="t")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )


def test_a_second_sync_embeds_only_the_changed_and_new_rows(world, table):
    embedder, index, run = world
    first = run()
    assert (first.changed, first.embedded) == (100, 100)
    embedder.texts.clear()
    upsert(table, rows([str(i) for i in range(10)], body="changed"))
    upsert(table, rows(["n1", "n2", "n3"], body="new"))
    DeltaTable(str(table)).delete("id in ('50', '51', '52', '53', '54')")
    report = run()
    assert (report.changed, report.removed, report.embedded) == (13, 5, 13)
    assert len(embedder.texts) == 13
    assert all(text.startswith(("changed", "new")) for text in embedder.texts)
    assert len(index.documents()) == 98
    assert report.version.source.version == DeltaTable(str(table)).version()


def test_a_deleted_row_is_in_no_result(world, table):
    embedder, index, run = world
    run()
    DeltaTable(str(table)).delete("id = '42'")
    run()
    query = embedder.embed_queries(["original words about number 42"])[0]
    found = {hit.passage.document_id for hit in index.search(query, k=1000, access=STAFF).hits}
    assert len(found) == 99
    assert "42" not in found


def test_a_change_of_metadata_alone_embeds_nothing(world, table):
    embedder, _, run = world
    run()
    embedder.texts.clear()
    upsert(table, rows(["1", "2"], kind="memo"))
    report = run()
    assert (report.changed, report.embedded, embedder.texts) == (2, 0, [])


def test_a_sync_of_an_unchanged_table_publishes_nothing(world):
    _, index, run = world
    first = run()
    assert run().is_noop
    assert index.version() == first.version


def test_a_table_dropped_and_recreated_ends_in_an_index_equal_to_it(world, table):
    _, index, run = world
    run()
    write_deltalake(str(table), rows(["x", "1"]), mode="overwrite")
    run()
    assert set(index.documents()) == {"x", "1"}


@pytest.mark.parametrize(
    ("ids", "message"), [(["1", "1"], "'1' stands more than once"), (["1", None], "null 'id'")]
)
def test_bad_keys_are_refused_and_the_old_generation_stays(world, table, ids, message):
    _, index, run = world
    before = run().version
    write_deltalake(str(table), rows(ids), mode="overwrite")
    with pytest.raises(BadKeys, match=message):
        run()
    assert index.version() == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda table: table.drop(["body"]), SchemaMismatch, "no column 'body'; it has: id"),
        (lambda table: table.drop(["id"]), SchemaMismatch, "no column 'id'; it has: title"),
        (lambda table: table.set_column(0, "id", pa.array([1])), SchemaMismatch,
         "'id' must be a string, it is int64"),
        (None, TableNotFound, "no Delta table at"),
    ],
)  # fmt: skip
def test_a_table_that_no_longer_fits_is_refused_and_the_old_generation_still_answers(
    world, table, change, error, message
):
    embedder, index, run = world
    before = run().version
    shutil.rmtree(table)
    if change is not None:
        write_deltalake(str(table), change(rows(["1"])))
    with pytest.raises(error, match=message):
        run()
    query = embedder.embed_queries(["original words about number 7"])[0]
    found = index.search(query, k=1, access=STAFF)
    assert (found.hits[0].passage.document_id, found.version) == ("7", before)


def test_a_rebuild_equals_the_table_and_embeds_only_what_the_same_embedder_has_not(
    world, table, tmp_path
):
    embedder, index, run = world
    run()
    upsert(table, rows(["new"]))
    embedder.texts.clear()
    source, chunk = DeltaSource(table, MAPPING), token_chunker(None, 50)
    hnsw = replace(index.settings, kind="hnsw")
    report = rebuild(source, tmp_path / "index", hnsw, embedder, chunk)
    assert (report.changed, report.embedded, len(embedder.texts)) == (101, 1, 1)
    rebuilt = LocalIndex(tmp_path / "index", hnsw)
    assert rebuilt.documents().keys() == {*(str(i) for i in range(100)), "new"}
    assert rebuilt.version().source == source.version()
    other = CountingEmbedder(32)
    info = other.info
    identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
    report = rebuild(source, tmp_path / "index", replace(hnsw, embedder=identity), other, chunk)
    assert report.embedded == len(other.texts) == 101
    with pytest.raises(EmbedderMismatch, match="`headrace index rebuild docs`"):
        index.refresh()
    assert len(index.documents()) == 100


def test_a_missing_table_and_a_missing_column_are_named(table, tmp_path):
    with pytest.raises(TableNotFound, match="nowhere"):
        DeltaSource(tmp_path / "nowhere", MAPPING).version()
    with pytest.raises(SchemaMismatch, match="no column 'nope'"):
        DeltaSource(table, ColumnMapping("id", "title", "nope")).snapshot()
    with pytest.raises(SchemaMismatch, match="'groups' must be a string, it is list"):
        DeltaSource(table, ColumnMapping("id", "title", "groups")).snapshot()
    with pytest.raises(SchemaMismatch, match="'kind' must be a timestamp, it is string"):
        DeltaSource(table, ColumnMapping("id", "title", "body", updated_at="kind")).snapshot()
