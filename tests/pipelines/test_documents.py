"""Real PDF and Word files, parsed by the real xberg in a real child process."""

import importlib.util
import os
from pathlib import Path

import pytest
from papers import DOCX, PDF, docx, obey_documents, pdf

from pipelines.errors import DocumentUnreadable, MissingExtra
from pipelines.sources.documents import DocumentParser, ParserLimits


@pytest.fixture(scope="module")
def parser():
    with DocumentParser() as made:
        yield made


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A parser whose xberg does what a document tells it: the child is our own, and real."""
    obey_documents(tmp_path, monkeypatch, signed=True)
    with DocumentParser(ParserLimits(timeout_s=1.0, memory_bytes=1 << 30)) as made:
        yield made


def test_a_pdf_and_a_word_document_are_their_text_with_headings_set_off(parser):
    assert parser.text(PDF) == "Refunds take 14 days. Ask support for more."
    assert parser.text(DOCX) == "Intro.\n\n\n\n\nRefunds\nThey take 14 days."


def test_characters_that_a_word_document_has_to_escape_are_not_lost(parser):
    # The parser's forerunner, kreuzberg 4, leaves every one of them out without a word.
    escaped = docx((None, "R&amp;D: 1 &lt; 2 &gt; 0, caf&#233;"))
    assert parser.text(escaped) == "R&D: 1 < 2 > 0, café"
    assert parser.text(pdf("AT&T <b>")) == "AT&T <b>"


def test_what_looks_like_markup_in_a_document_is_text(parser):
    assert parser.text(b"if a<b and b>c: <script>x</script>") == (
        "if a<b and b>c: <script>x</script>"
    )


@pytest.mark.parametrize(
    "content",
    [PDF[:300], DOCX[:200], b"%PDF-1.4 not really", bytes(range(256)) * 10],
    ids=["a cut PDF", "a cut DOCX", "no PDF", "no document"],
)
def test_a_damaged_document_is_named_and_the_next_one_is_parsed(parser, content):
    with pytest.raises(DocumentUnreadable, match=r"the document cannot be parsed: .+"):
        parser.text(content)
    assert parser.text(PDF).startswith("Refunds")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"crash", r"the parser died of the document \(SIGABRT\)"),
        (b"exit", r"the parser died of the document \(exit status 3\)"),
        (b"hang", "took more than 1 s"),
        (b"eat", "cannot be parsed: MemoryError"),
    ],
)
def test_a_document_that_breaks_the_parser_costs_that_document_alone(hostile, content, message):
    before = hostile.text(b"one")
    with pytest.raises(DocumentUnreadable, match=message):
        hostile.text(content)
    after = hostile.text(b"one")
    assert after.startswith("one by ")
    assert (after == before) == (content == b"eat")


def test_one_child_parses_document_after_document_and_ends_with_the_parser(hostile):
    first, second = (int(hostile.text(b"pid").split()[-1]) for _ in range(2))
    assert first == second
    hostile.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_large_document_passes_through_whole(hostile):
    sent = "word " * 2_000_000
    assert hostile.text(sent.encode()).startswith(sent.strip())


def test_a_document_without_text_is_named_and_no_bytes_are_no_text(parser):
    with pytest.raises(DocumentUnreadable, match="holds no text: it is damaged, or pictures only"):
        parser.text(pdf())
    assert parser.text(b"") == ""


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'headrace\[documents\]'"):
        DocumentParser()


def test_a_bomb_of_an_archive_is_refused_or_ends_the_child_alone():
    bomb = docx((None, "a" * 150_000_000))
    assert len(bomb) < 1_000_000
    with DocumentParser(ParserLimits(30.0, 768 << 20)) as small:
        with pytest.raises(DocumentUnreadable):
            small.text(bomb)
        assert small.text(PDF).startswith("Refunds")


def test_the_child_imports_nothing_of_ours():
    source = Path(importlib.util.find_spec("pipelines.sources.document_child").origin).read_text()
    assert "from pipelines" not in source
    assert "import pipelines" not in source
