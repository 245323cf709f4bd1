"""Documents in a column or beside the table, through whole syncs to what a search finds."""

import os
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from papers import DOCX, PDF, docx, obey_documents, pdf
from worlds import CountingEmbedder

from pipelines.chunking import token_chunker
from pipelines.errors import DocumentUnreadable, MissingExtra, SchemaMismatch, TableNotFound
from pipelines.proof import prove
from pipelines.quality import parse_checks
from pipelines.quarantine import Quarantine
from pipelines.reapply import applier
from pipelines.retry import retry
from pipelines.setting_aside import Rules, SettingAside
from pipelines.sources import ColumnMapping, DeltaSource, document_source
from pipelines.sources.document_folder import DocumentFolder
from pipelines.sources.document_source import DocumentSource
from pipelines.sources.documents import DocumentParser, ParserLimits
from pipelines.sources.parquet import ParquetSource
from pipelines.sources.sql import SqlSource
from pipelines.sync import sync
from vector_index.local import LocalIndex
from vector_index.manifest import IndexSettings
from vector_index.passages import Access, EmbedderIdentity

FEED = {"delta.enableChangeDataFeed": "true"}
ANYBODY = Access("", frozenset())
PAGE = b"<html><body><nav>menu</nav><h1>Returns</h1><p>Send it back unopened.</p></body></html>"


class Shelf:
    """A table of documents, the folder beside it, and an index of both."""

    def __init__(self, tmp_path, holds, *, limits=ParserLimits(), made=DeltaSource):
        self.table, self.folder = str(tmp_path / "table"), tmp_path / "documents"
        self.folder.mkdir()
        self.kind = pa.binary() if holds == "bytes" else pa.string()
        self.holds, self.limits, self.made = holds, limits, made
        self.embedder, self.chunk = CountingEmbedder(), token_chunker(None, 8)
        info = self.embedder.info
        identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
        made_of = IndexSettings("docs", "flat", identity, {}, {}, False, False)
        self.index = LocalIndex(tmp_path / "index", made_of)
        self.quarantine, self.rules = Quarantine(tmp_path / "quarantine"), Rules()

    def rows(self, **documents):
        return pa.table(
            {
                "id": list(documents),
                "title": [f"title {key}" for key in documents],
                "file": pa.array(list(documents.values()), self.kind),
            }
        )

    def write(self, mode="error", **documents):
        options = {} if mode == "append" else {"configuration": FEED}
        write_deltalake(self.table, self.rows(**documents), mode=mode, **options)

    def source(self):
        """A new one, as each command makes it."""
        mapping = ColumnMapping("id", "title", "file", text_from=self.holds)
        folder = None if self.holds == "bytes" else DocumentFolder(str(self.folder), {})
        return DocumentSource(self.made(self.table, mapping), folder=folder, limits=self.limits)

    def aside(self, retried=frozenset()):
        return SettingAside(self.quarantine, "id", "file", self.rules, retried)

    def sync(self):
        return sync(self.source(), self.index, self.embedder, self.chunk, aside=self.aside())

    def found(self, words):
        """The best passage's document by words, and by its vector."""
        vector = self.embedder.embed_queries([words])[0]
        options = {"text": words, "k": 1, "access": ANYBODY}
        return [
            hit.passage.document_id
            for mode in ("full_text", "ann")
            for hit in self.index.search(vector, mode=mode, **options).hits
        ]

    def held(self):
        return {row.key: row.reason for row in self.quarantine.open()}


@pytest.fixture
def parsed(monkeypatch):
    """Every document that is handed to the parser."""
    seen, parse = [], DocumentParser.text

    def counted(self, content):
        seen.append(content)
        return parse(self, content)

    monkeypatch.setattr(DocumentParser, "text", counted)
    return seen


def test_documents_in_a_column_are_found_by_what_they_say(tmp_path):
    shelf = Shelf(tmp_path, "bytes")
    shelf.write(policy=PDF, word=DOCX, page=PAGE, note=b"plain words", none=None)
    report = shelf.sync()
    assert (report.changed, report.quarantined) == (5, 0)
    assert shelf.found("Ask support for more") == ["policy"] * 2
    assert shelf.found("They take 14 days Intro") == ["word"] * 2
    assert shelf.found("Send it back unopened") == ["page"] * 2
    assert shelf.found("plain words") == ["note"] * 2
    assert shelf.index.documents().keys() == {"policy", "word", "page", "note", "none"}
    assert prove(shelf.source(), shelf.index, shelf.embedder, shelf.chunk).is_equal


@pytest.mark.parametrize(
    "made",
    [
        ParquetSource,
        lambda table, mapping: SqlSource("SELECT * FROM t", {"t": table}, mapping),
    ],
    ids=["parquet", "sql"],
)
def test_documents_of_parquet_files_and_of_sql_are_found_too(tmp_path, made):
    shelf = Shelf(tmp_path, "bytes", made=made)
    os.mkdir(shelf.table)
    pq.write_table(shelf.rows(policy=PDF, word=DOCX), f"{shelf.table}/a.parquet")
    assert shelf.sync().changed == 2
    assert shelf.found("Ask support for more") == ["policy"] * 2
    assert shelf.sync().is_noop


def test_only_documents_of_changed_rows_are_parsed_and_only_new_text_is_embedded(tmp_path, parsed):
    shelf = Shelf(tmp_path, "bytes")
    shelf.write(policy=PDF, word=DOCX)
    shelf.sync()
    assert parsed == [PDF, DOCX]
    parsed.clear()
    shelf.embedder.texts.clear()
    assert shelf.sync().is_noop
    shelf.write("append", page=PAGE)
    report = shelf.sync()
    assert (report.mode, report.changed, parsed) == ("incremental", 1, [PAGE])
    parsed.clear()
    shelf.write("overwrite", policy=PDF + b"\n", word=DOCX, page=PAGE)
    shelf.embedder.texts.clear()
    assert (shelf.sync().changed, parsed) == (1, [PDF + b"\n"])
    assert shelf.embedder.texts == []


def test_a_document_that_breaks_the_parser_is_set_aside_and_the_rest_is_searchable(
    tmp_path, monkeypatch
):
    shelf = Shelf(tmp_path, "bytes", limits=ParserLimits(timeout_s=1.0, memory_bytes=1 << 30))
    obey_documents(tmp_path, monkeypatch)
    shelf.write(a=b"healthy", b=b"crash", c=b"hang", d=b"\xff", e=b"sound")
    report = shelf.sync()
    assert (report.changed, report.quarantined) == (2, 3)
    assert shelf.held() == {"b": "parser_failed", "c": "parser_timeout", "d": "parser_failed"}
    details = {row.key: row.detail for row in shelf.quarantine.open()}
    assert "SIGABRT" in details["b"]
    assert "took more than 1 s" in details["c"]
    assert {shelf.found("healthy")[0], shelf.found("sound")[0]} == {"a", "e"}
    assert shelf.sync().is_noop


def test_a_retry_parses_again_what_failed(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, "bytes", limits=ParserLimits(timeout_s=30.0, memory_bytes=1 << 30))
    obey_documents(tmp_path, monkeypatch)
    shelf.write(good=b"healthy", bad=b"crash")
    shelf.sync()

    def again():
        snapshot = shelf.source().snapshot()
        apply = applier(
            snapshot, shelf.index, shelf.embedder, shelf.chunk,
            under=shelf.index.version().source, aside=shelf.aside(frozenset({"bad"})),
        )  # fmt: skip
        return retry(shelf.quarantine, snapshot.hashes(), shelf.index.documents, apply)

    assert again().failed == ("bad",)
    (tmp_path / "cured").touch()
    assert again().indexed == ("bad",)
    assert (shelf.held(), shelf.found("crash")) == ({}, ["bad"] * 2)


def test_rules_are_about_the_text_of_a_document(tmp_path):
    shelf = Shelf(tmp_path, "bytes")
    shelf.write(long=docx((None, "word " * 40)), short=PDF)
    rule = {"column": "file", "check": "length", "max": 100, "on_fail": "quarantine"}
    shelf.rules = Rules(parse_checks([rule], pa.schema([("file", pa.string())])))
    shelf.sync()
    assert shelf.held() == {"long": "quality"}


def test_files_named_by_a_column_are_found_and_those_outside_the_folder_are_refused(tmp_path):
    shelf = Shelf(tmp_path, "paths")
    (shelf.folder / "a").mkdir()
    (shelf.folder / "a" / "policy.pdf").write_bytes(PDF)
    (shelf.folder / "word.docx").write_bytes(DOCX)
    (shelf.folder / "_hidden.txt").write_text("hidden")
    (tmp_path / "secret.txt").write_text("secret")
    (shelf.folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    refused = {
        "up": "../secret.txt", "round": "a/../../secret.txt", "whole": str(tmp_path / "secret.txt"),
        "link": "link.txt", "url": "s3://bucket/secret.txt", "absent": "no.pdf",
        "zero": "bad\0name", "folder": "a", "dot": ".", "hidden": "_hidden.txt", "empty": "",
    }  # fmt: skip
    whole = str(shelf.folder / "word.docx")
    shelf.write(policy="a/./policy.pdf", word=whole, none=None, **refused)
    report = shelf.sync()
    assert (report.changed, report.quarantined) == (3, len(refused))
    assert shelf.held() == dict.fromkeys(refused, "bad_path")
    outside = {row.key for row in shelf.quarantine.open() if "leads out of" in row.detail}
    assert outside == {"up", "round", "whole", "link"}
    assert shelf.found("Ask support for more") == ["policy"] * 2
    assert shelf.found("They take 14 days Intro") == ["word"] * 2
    assert prove(shelf.source(), shelf.index, shelf.embedder, shelf.chunk,
                 set_aside=shelf.quarantine.held_as()).is_equal  # fmt: skip


def test_a_file_that_is_replaced_added_or_removed_is_noticed_without_a_commit(tmp_path, parsed):
    shelf = Shelf(tmp_path, "paths")
    (shelf.folder / "one.pdf").write_bytes(PDF)
    (shelf.folder / "two.docx").write_bytes(DOCX)
    shelf.write(one="one.pdf", two="two.docx", late="late.txt")
    shelf.sync()
    assert (parsed, shelf.held()) == ([PDF, DOCX], {"late": "bad_path"})
    parsed.clear()
    assert shelf.sync().is_noop
    replacing = pdf("Everything is different now.")
    (shelf.folder / "one.pdf").write_bytes(replacing)
    (shelf.folder / "late.txt").write_text("here at last")
    assert shelf.source().lag(shelf.index.version().source).versions is None
    report = shelf.sync()
    assert (report.mode, report.changed) == ("diff", 2)
    assert report.reason == f"files below {shelf.folder} have changed"
    assert (sorted(parsed), shelf.held()) == (sorted([b"here at last", replacing]), {})
    assert shelf.found("Everything is different now") == ["one"] * 2
    (shelf.folder / "two.docx").unlink()
    shelf.sync()
    assert shelf.held() == {"two": "bad_path"}
    assert "two" not in shelf.index.documents()
    assert shelf.source().lag(shelf.index.version().source).versions == 0


def test_while_no_file_changes_the_tables_own_feed_is_relied_on(tmp_path, parsed):
    shelf = Shelf(tmp_path, "paths")
    for name in ("one", "two"):
        (shelf.folder / f"{name}.txt").write_text(f"text {name}")
    shelf.write(one="one.txt")
    shelf.sync()
    parsed.clear()
    shelf.write("append", two="two.txt")
    DeltaTable(shelf.table).delete("id = 'one'")
    report = shelf.sync()
    assert (report.mode, report.changed, report.removed) == ("incremental", 1, 1)
    assert parsed == [b"text two"]


def test_a_listing_is_shared_for_a_while_and_made_anew_for_a_snapshot(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    folder = DocumentFolder(str(tmp_path), {}, look_every_s=3600)
    before = folder.listing()
    (tmp_path / "b.txt").write_text("b")
    assert folder.listing() is before
    assert folder.listing(is_fresh=True).files.keys() == {"a.txt", "b.txt"}
    assert folder.listing().files.keys() == {"a.txt", "b.txt"}
    (tmp_path / "c.txt").write_text("c")
    assert len(DocumentFolder(str(tmp_path), {}, look_every_s=0).listing().files) == 3


def test_a_column_that_holds_something_else_and_a_folder_that_is_gone_are_named(tmp_path):
    shelf = Shelf(tmp_path, "bytes")
    shelf.kind = pa.string()
    shelf.write(one="one.txt")
    with pytest.raises(SchemaMismatch, match="'file' must be binary, of documents, it is string"):
        shelf.sync()
    shelf.holds = "paths"
    shelf.folder.rmdir()
    with pytest.raises(TableNotFound, match="no file or folder at "):
        shelf.sync()


def test_without_a_quarantine_the_first_bad_document_ends_the_sync(tmp_path):
    shelf = Shelf(tmp_path, "bytes")
    shelf.write(bad=PDF[:300])
    with pytest.raises(DocumentUnreadable, match="a PDF without its end"):
        sync(shelf.source(), shelf.index, shelf.embedder, shelf.chunk)


def test_without_the_extra_a_sync_says_what_to_install_and_sets_nothing_aside(
    tmp_path, monkeypatch
):
    shelf = Shelf(tmp_path, "bytes")
    shelf.write(one=PDF)

    def missing():
        raise MissingExtra("pip install 'headrace[documents]'")

    monkeypatch.setattr(document_source, "check_installed", missing)
    with pytest.raises(MissingExtra):
        shelf.sync()
    assert shelf.held() == {}


def test_the_age_of_files_that_changed_is_how_far_the_index_is_behind(tmp_path):
    shelf = Shelf(tmp_path, "paths")
    (shelf.folder / "one.txt").write_text("one")
    shelf.write(one="one.txt")
    shelf.sync()
    (shelf.folder / "one.txt").write_text("two")
    hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(shelf.folder / "one.txt", (hour_ago, hour_ago))
    lag = shelf.source().lag(shelf.index.version().source)
    assert lag.seconds == pytest.approx(3600, abs=60)
