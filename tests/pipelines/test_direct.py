"""Documents handed over one by one, through the real writer."""

import importlib
from datetime import UTC, date, datetime

import numpy as np
import pytest
from worlds import CountingEmbedder

from pipelines.chunking import token_chunker
from pipelines.direct import DirectIndex, Document
from pipelines.errors import BadDocument
from vector_index.building import create
from vector_index.errors import IndexFull
from vector_index.filters import parse_filter
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.options import WriterOptions
from vector_index.passages import Access, EmbedderIdentity, SourceVersion
from vector_index.tail import TailLimits
from vector_index.writer import IndexWriter

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ANYBODY = Access("", frozenset())
COLUMNS = {"kind": "string", "views": "int", "share": "float", "is_new": "bool", "at": "timestamp",
           "day": "date", "tags": "strings"}  # fmt: skip


class Desk:
    """An index that is written to, and a look at it."""

    def __init__(self, folder, *, restricts=False, options=None):
        self.home, self.embedder = folder / "index", CountingEmbedder()
        info = self.embedder.info
        identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
        self.settings = IndexSettings("notes", "flat", identity, {}, COLUMNS, restricts, restricts)
        create(self.home, self.settings, SourceVersion("direct", 0, "direct", NOW))
        self.writer = IndexWriter(self.home, self.settings, options=options)
        chunk = token_chunker(None, 8)
        self.documents = DirectIndex(self.writer, self.embedder, chunk, max_text_bytes=1000)

    def upsert(self, *documents):
        return self.documents.upsert(documents)

    def found(self, words, *, access=ANYBODY, mode="full_text", where=None):
        vector = self.embedder.embed_queries([words])[0]
        tree = None if where is None else parse_filter(where, COLUMNS)
        hits = self.writer.search(vector, text=words, k=10, access=access, mode=mode, where=tree)
        return [hit.passage.document_id for hit in hits.hits]


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.writer.close()


def test_a_document_is_found_at_once_and_its_new_version_takes_its_place(desk):
    first = desk.upsert(Document("a", "apples are red"), Document("b", "bananas are yellow"))
    assert (desk.found("apples"), desk.found("bananas", mode="ann")[0]) == (["a"], "b")
    second = desk.upsert(Document("a", "cherries are dark"))
    assert second.sequence > first.sequence
    assert (desk.found("apples"), desk.found("cherries")) == ([], ["a"])
    desk.documents.delete(["a", "never there"])
    assert (desk.found("cherries"), desk.writer.count()) == ([], (1, 1))


def test_a_long_text_is_cut_and_only_new_passages_are_embedded(desk):
    long = " ".join(f"word{n}" for n in range(24))
    desk.upsert(Document("a", long))
    assert desk.writer.count() == (1, 3)
    assert len(desk.embedder.texts) == 3
    desk.upsert(Document("a", f"{long} and more"), Document("copy", long))
    assert (desk.writer.count()[0], len(desk.embedder.texts)) == (2, 4)


def test_given_vectors_are_normalised_and_stand_for_the_whole_text(desk):
    dim = desk.embedder.info.dim
    aim = [2.0] + [0.0] * (dim - 1)
    text = " ".join(f"word{n}" for n in range(24))
    desk.upsert(Document("text", "some text"), Document("given", text, vector=aim))
    assert desk.writer.count() == (2, 2)
    first_axis = np.eye(dim, dtype=np.float32)[0]
    (hit,) = desk.writer.search(first_axis, k=1, access=ANYBODY).hits
    assert (hit.passage.document_id, hit.passage.text) == ("given", text)
    assert hit.score == pytest.approx(1.0)
    assert text not in desk.embedder.texts


def test_metadata_of_every_kind_can_be_filtered_by(desk):
    # As any quality rule does; from then on pyarrow drops the zones of times.
    importlib.import_module("pandera.pandas")
    desk.upsert(
        Document("a", "text", metadata={
            "kind": "note", "views": 3, "share": 1, "is_new": True,
            "at": "2026-11-25T01:00:00+01:00",
            "day": "2026-11-25", "tags": ["x", "y"],
        }),
        Document("b", "text", metadata={"at": NOW, "day": date(2026, 11, 24), "views": None}),
        Document("c", "text", metadata={"at": "2026-11-24"}),
    )  # fmt: skip
    assert desk.found("text", where={"kind": "note"}) == ["a"]
    assert desk.found("text", where={"views": 3}) == ["a"]
    assert desk.found("text", where={"is_new": True}) == ["a"]
    assert sorted(desk.found("text", where={"at": "2026-11-25T00:00:00Z"})) == ["a", "b"]
    assert desk.found("text", where={"day": "2026-11-24"}) == ["b"]


def test_who_may_see_a_document_is_said_by_the_document(tmp_path):
    desk = Desk(tmp_path, restricts=True)
    desk.upsert(Document("a", "text", tenant="acme", groups=("staff",)))
    assert desk.found("text", access=Access("acme", frozenset({"staff"}))) == ["a"]
    assert desk.found("text", access=Access("acme", frozenset({"guests"}))) == []
    assert desk.found("text", access=Access("other", frozenset({"staff"}))) == []
    for lacking in ({"tenant": "acme"}, {"groups": ("staff",)}, {"tenant": "acme", "groups": ()}):
        with pytest.raises(BadDocument, match=r"'b' needs (tenant|groups): the index restricts by"):
            desk.upsert(Document("b", "text", **lacking))
    desk.writer.close()


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        (Document("", "t"), "id", "id is empty"),
        (Document("a\ud800", "t"), "id", "the id of document"),
        (Document("a", "t\ud800"), "text", "the text of document 'a'"),
        (Document("a", "t", title="\udfff"), "title", "the title of document 'a'"),
        (Document("a", "é" * 501), "text", "1,002 bytes of at most 1,000"),
        (Document("a", "t", tenant="acme"), "tenant", "'a' has tenant: the index does not"),
        (Document("a", "t", groups=("x",)), "groups", "'a' has groups: the index does not"),
        (Document("a", "t", vector=[1.0]), "vector", "must be 16 finite numbers .* it has 1"),
        (Document("a", "t", vector=[]), "vector", "it has 0"),
        (Document("a", "t", vector=[0.0] * 16), "vector", "not all zero"),
        (Document("a", "t", vector=[float("nan")] * 16), "vector", "finite"),
        (Document("a", "t", metadata={"kin": 1}), "metadata", "has metadata 'kin'; the index has"),
        (Document("a", "t", metadata={"kind": 1}), "metadata.kind", "must be a string, it is 1"),
        (Document("a", "t", metadata={"kind": "\ud800"}), "metadata.kind", "must be a string"),
        (
            Document("a", "t", metadata={"views": True}),
            "metadata.views",
            "a 64-bit int, it is True",
        ),
        (Document("a", "t", metadata={"views": 2**63}), "metadata.views", "a 64-bit int"),
        (Document("a", "t", metadata={"views": 1.5}), "metadata.views", "it is 1.5"),
        (Document("a", "t", metadata={"share": float("inf")}), "metadata.share", "a float"),
        (Document("a", "t", metadata={"is_new": 1}), "metadata.is_new", "a bool, it is 1"),
        (Document("a", "t", metadata={"at": "soon"}), "metadata.at", "a timestamp, it is 'soon'"),
        (Document("a", "t", metadata={"day": "2026-13-01"}), "metadata.day", "a date"),
        (Document("a", "t", metadata={"tags": "x"}), "metadata.tags", "a list of strings"),
        (Document("a", "t", metadata={"tags": ["x", 1]}), "metadata.tags", "a list of strings"),
        (Document("good", "t"), "id", "stands twice in this request"),
    ],
)
def test_a_document_that_cannot_be_is_named_with_its_field_and_none_is_written(
    desk, document, field, message
):
    with pytest.raises(BadDocument, match=message) as caught:
        desk.upsert(Document("good", "t"), document)
    assert caught.value.field == field
    assert desk.writer.count() == (0, 0)


def test_more_at_once_than_may_wait_in_memory_is_refused_whole(tmp_path):
    desk = Desk(tmp_path, options=WriterOptions(tail=TailLimits(rows=2)))
    with pytest.raises(IndexFull):
        desk.upsert(*(Document(str(n), "text") for n in range(3)))
    assert desk.writer.count() == (0, 0)
    desk.writer.close()


def test_what_was_not_flushed_is_there_for_the_next_writer(tmp_path):
    desk = Desk(tmp_path)
    desk.upsert(Document("a", "apples are red"))
    assert LocalIndex(desk.home, desk.settings).count() == (0, 0)
    desk.writer.close()
    desk.writer = IndexWriter(desk.home, desk.settings)
    assert desk.found("apples") == ["a"]
    desk.writer.flush()
    assert LocalIndex(desk.home, desk.settings).count() == (1, 1)
    desk.writer.close()
