"""Every kind of source through the real sync into a real index."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from worlds import CountingEmbedder

from pipelines.chunking import token_chunker
from pipelines.errors import FileUnreadable
from pipelines.sources.parquet import ParquetSource
from pipelines.sources.protocol import ColumnMapping
from pipelines.sources.sql import SqlSource
from pipelines.sync import sync
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import EmbedderIdentity

MAPPING = ColumnMapping("id", "title", "body", ("views",))
SQL = "SELECT id, title, body, coalesce(views, 0) AS views FROM docs LEFT JOIN counts USING (id)"


def documents(ids, body="original"):
    return pa.table(
        {"id": ids, "title": [f"t {i}" for i in ids], "body": [f"{body} of {i}" for i in ids]}
    )


class Folder:
    """Two Parquet files, of which the second can be written anew."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.write("a", [str(n) for n in range(20)])
        self.write("b", [str(n) for n in range(20, 40)])
        self.source = ParquetSource(str(path), MAPPING)

    def write(self, name, ids, body="original", views=0):
        table = documents(ids, body).append_column("views", pa.array([views] * len(ids)))
        pq.write_table(table, self.path / f"{name}.parquet")

    def change(self, ids, body="original", views=0):
        self.write("b", ids, body, views)

    def damage(self):
        file = self.path / "b.parquet"
        file.write_bytes(file.read_bytes()[:-10])


class Query:
    """A join of a Delta table and a Parquet file."""

    def __init__(self, path):
        self.docs, self.counts = path / "docs", path / "counts.parquet"
        self.change([str(n) for n in range(20, 40)])
        self.source = SqlSource(SQL, {"docs": str(self.docs), "counts": str(self.counts)}, MAPPING)

    def change(self, ids, body="original", views=0):
        first = documents([str(n) for n in range(20)])
        both = pa.concat_tables([first, documents(ids, body)])
        write_deltalake(str(self.docs), both, mode="overwrite")
        pq.write_table(pa.table({"id": ids, "views": [views] * len(ids)}), self.counts)

    def damage(self):
        self.counts.write_bytes(self.counts.read_bytes()[:-10])


@pytest.fixture(params=[Folder, Query])
def world(request, tmp_path):
    table, embedder = request.param(tmp_path / "table"), CountingEmbedder()
    info = embedder.info
    settings = IndexSettings(
        name="docs",
        kind="flat",
        embedder=EmbedderIdentity(info.id, info.weights_sha256, info.dim),
        chunking={"max_tokens": 50},
        metadata_columns=table.source.metadata_types(),
        has_tenant=False,
        has_groups=False,
    )
    index = LocalIndex(tmp_path / "index", settings)
    chunk = token_chunker(None, 50)
    return table, index, embedder, lambda: sync(table.source, index, embedder, chunk)


def test_a_sync_embeds_what_changed_removes_what_went_and_then_has_nothing_to_do(world):
    table, index, embedder, run = world
    assert run().embedded == 40
    assert run().is_noop
    embedder.texts.clear()
    table.change([str(n) for n in range(25, 45)])
    report = run()
    assert (report.mode, report.removed, report.embedded) == ("diff", 5, 5)
    assert sorted(embedder.texts) == [f"original of {n}" for n in range(40, 45)]
    assert index.documents() == table.source.snapshot().hashes()
    assert run().is_noop


def test_a_change_of_metadata_alone_embeds_nothing(world):
    table, _, embedder, run = world
    run()
    embedder.texts.clear()
    table.change([str(n) for n in range(20, 40)], views=7)
    report = run()
    assert (report.changed, embedder.texts) == (20, [])


def test_a_damaged_file_leaves_the_index_as_it_was(world):
    table, index, _, run = world
    before = run().version
    table.damage()
    with pytest.raises(FileUnreadable):
        run()
    assert index.version() == before
    assert len(index.documents()) == 40
