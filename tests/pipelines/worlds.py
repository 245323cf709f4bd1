"""A Delta table, the index that follows it, and an oracle that reads the table without us."""

import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.chunking import token_chunker
from pipelines.quarantine import Quarantine
from pipelines.setting_aside import Rules, SettingAside
from pipelines.sources import ColumnMapping, DeltaSource
from pipelines.sync import sync
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import Access, EmbedderIdentity

MAPPING = ColumnMapping(
    "id", "title", "body", ("kind", "views"), "tenant", "groups", "updated_at"
)  # fmt: skip
STAFF = Access("acme", frozenset({"staff"}))
FEED = "delta.enableChangeDataFeed"
WRITTEN = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("body", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("views", pa.int32()),
        pa.field("tenant", pa.string()),
        pa.field("groups", pa.list_(pa.string())),
        pa.field("updated_at", pa.timestamp("us", tz="UTC")),
    ]
)


class CountingEmbedder(HashingEmbedder):
    """The hashing embedder, with a record of every text it was given."""

    def __init__(self, dim=16):
        super().__init__(dim)
        self.texts = []

    def embed_passages(self, texts, *, on_progress=None):
        self.texts.extend(texts)
        return super().embed_passages(texts, on_progress=on_progress)


def row(key, body="original", **columns):
    return {
        "id": key,
        "title": f"title {key}",
        "body": f"{body} words about number {key}",
        "kind": "note",
        "views": 1,
        "tenant": "acme",
        "groups": ["staff"],
        "updated_at": WRITTEN,
        **columns,
    }


def rows(keys, body="original", **columns):
    return pa.Table.from_pylist([row(key, body, **columns) for key in keys], schema=SCHEMA)


class World:
    """A table below a folder, and an index of it: `sync`, then `check`."""

    def __init__(self, folder, *, feed=True, keys=range(20), mapping=MAPPING, embedder=None):
        self.folder, self.table = folder, folder / "table"
        self.embedder = embedder or CountingEmbedder()
        self.chunk = token_chunker(None, 8)
        if keys is not None:
            self.create(rows([str(key) for key in keys]), feed=feed)
            self.open(mapping)

    def create(self, table, *, feed=True):
        configuration = {FEED: "true"} if feed else {}
        write_deltalake(str(self.table), table, configuration=configuration)

    def open(self, mapping=MAPPING):
        """Follows the table that is there."""
        self.source = DeltaSource(self.table, mapping)
        self.index = self.open_index()

    def open_index(self):
        info = self.embedder.info
        settings = IndexSettings(
            name="docs",
            kind="flat",
            embedder=EmbedderIdentity(info.id, info.weights_sha256, info.dim),
            chunking={"max_tokens": 8},
            metadata_columns=self.source.metadata_types(),
            has_tenant=True,
            has_groups=True,
        )
        return LocalIndex(self.folder / "index", settings)

    @property
    def delta(self):
        return DeltaTable(str(self.table))

    def sync(self):
        return sync(self.source, self.index, self.embedder, self.chunk)

    def append(self, table, **options):
        write_deltalake(str(self.table), table, mode="append", **options)

    def overwrite(self, table, **options):
        write_deltalake(str(self.table), table, mode="overwrite", **options)

    def upsert(self, table):
        (
            self.delta.merge(table, "s.id = t.id", source_alias="s", target_alias="t")
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )

    def drop(self):
        shutil.rmtree(self.table)

    def commit_file(self, version):
        return self.table / "_delta_log" / f"{version:020d}.json"

    def write_commit(self, *actions):
        """A commit by hand, as another engine may write it."""
        version = self.delta.version() + 1
        lines = "\n".join(json.dumps(action) for action in actions)
        self.commit_file(version).write_text(lines)
        return version

    def expected(self, version=None):
        """(document, ordinal) to everything of the passage, read off the table by hand."""
        found = {}
        table = DeltaTable(str(self.table), version=version)
        for one in table.to_pyarrow_table().to_pylist():
            for ordinal, piece in enumerate(self.chunk(one["body"] or "")):
                found[one["id"], ordinal] = (
                    one["title"] or "", piece.text, one["tenant"], tuple(one["groups"] or ()),
                    one["updated_at"], {"kind": one["kind"], "views": one["views"]},
                )  # fmt: skip
        return found

    def keys(self, version=None):
        """Of all rows that are to be indexed."""
        table = DeltaTable(str(self.table), version=version)
        return table.to_pyarrow_table(columns=["id"])["id"].to_pylist()

    def indexed(self):
        """The same of the index, page by page."""
        found, after = {}, None
        while True:
            page = self.index.scan(after=after, limit=1000, access=None)
            for passage in (p for document in page.documents for p in document.passages):
                found[passage.document_id, passage.ordinal] = (
                    passage.title, passage.text, passage.tenant, passage.allowed_groups or (),
                    passage.updated_at, dict(passage.metadata),
                )  # fmt: skip
            after = page.next
            if after is None:
                return found

    def searched(self, mode):
        """(document, ordinal) of all that staff can find, by the vector of what each says."""
        vector = self.embedder.embed_queries(["original words about number"])[0]
        hits = self.index.search(vector, text="words", k=1000, access=STAFF, mode=mode).hits
        if mode == "ann" and hits:
            made = HashingEmbedder(len(vector)).embed_passages([hit.passage.text for hit in hits])
            np.testing.assert_allclose([hit.score for hit in hits], made @ vector, atol=1e-5)
        return {(hit.passage.document_id, hit.passage.ordinal) for hit in hits}

    def check(self):
        """Asserts that the index is the table: what it holds, what searches find, its cursor."""
        expected = self.expected()
        assert self.indexed() == expected
        visible = {
            key for key, (_, _, tenant, groups, _, _) in expected.items()
            if tenant == "acme" and "staff" in groups
        }  # fmt: skip
        assert self.searched("ann") == visible
        assert self.searched("full_text") == {key for key in visible if "words" in expected[key][1]}
        assert sorted(self.index.documents()) == sorted(self.keys())
        assert self.index.version().source == self.source.version()
        assert self.index.version().source.version == self.delta.version()


class Fussy(CountingEmbedder):
    """Cannot take a text that says poison, until it is cured."""

    is_cured = False

    def embed_passages(self, texts, *, on_progress=None):
        if not self.is_cured and any("poison" in text for text in texts):
            raise RuntimeError("no vector for poison")
        return super().embed_passages(texts, on_progress=on_progress)


class AsideWorld(World):
    """A world whose syncs set aside the rows that say poison."""

    def __init__(self, folder, **options):
        self.quarantine = Quarantine(folder / "quarantine")
        self.rules = Rules()
        super().__init__(folder, embedder=Fussy(), **options)

    def sync(self, retried=frozenset()):
        aside = SettingAside(self.quarantine, "id", "body", self.rules, retried)
        return sync(self.source, self.index, self.embedder, self.chunk, aside=aside)

    def held(self):
        return {row.key: row.reason for row in self.quarantine.open()}

    def poisoned(self, version=None):
        """The keys of the rows that cannot be indexed."""
        if self.embedder.is_cured:
            return set()
        table = DeltaTable(str(self.table), version=version)
        bodies = table.to_pyarrow_table(columns=["id", "body"]).to_pylist()
        return {one["id"] for one in bodies if "poison" in (one["body"] or "")}

    def keys(self, version=None):
        poisoned = self.poisoned(version)
        return [key for key in super().keys(version) if key not in poisoned]

    def expected(self, version=None):
        poisoned = self.poisoned(version)
        found = super().expected(version)
        return {place: one for place, one in found.items() if place[0] not in poisoned}

    def check(self):
        """As `World.check`, and the quarantine holds what is poisoned, no more and no less."""
        super().check()
        assert self.held().keys() == self.poisoned()
