"""Real PDF and Word files, parsed by the real xberg in a real child process."""

import importlib.util
import io
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.errors import DocumentUnreadable, MissingExtra, SchemaMismatch
from pipelines.sources.documents import DocumentParser, document_texts

OFFICE = "http://schemas.openxmlformats.org"
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


def pdf(*lines):
    """A PDF of one page in Helvetica."""
    shown = "BT /F1 14 Tf 72 720 Td 20 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    made, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    return (
        made
        + (
            f"xref\n0 6\n0000000000 65535 f \n{table}trailer << /Size 6 /Root 1 0 R >>\n"
            f"startxref\n{len(made)}\n%%EOF\n"
        ).encode()
    )


def docx(*paragraphs):
    """A Word document; a paragraph is (style or None, text)."""
    body = "".join(
        f"<w:p><w:pPr><w:pStyle w:val='{style}'/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"
        for style, text in paragraphs
    )
    types = (
        f"<Types xmlns='{OFFICE}/package/2006/content-types'>"
        "<Default Extension='rels' "
        "ContentType='application/vnd.openxmlformats-package.relationships+xml'/>"
        f"<Override PartName='/word/document.xml' ContentType='{WORD}'/></Types>"
    )
    relations = (
        f"<Relationships xmlns='{OFFICE}/package/2006/relationships'><Relationship Id='r1' "
        f"Type='{OFFICE}/officeDocument/2006/relationships/officeDocument' "
        "Target='word/document.xml'/></Relationships>"
    )
    held = (
        f"<w:document xmlns:w='{OFFICE}/wordprocessingml/2006/main'><w:body>{body}</w:body>"
        "</w:document>"
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", types)
        archive.writestr("_rels/.rels", relations)
        archive.writestr("word/document.xml", held)
    return made.getvalue()


PDF = pdf("Refunds take 14 days.", "Ask support for more.")
DOCX = docx((None, "Intro."), ("Heading1", "Refunds"), (None, "They take 14 days."))


@pytest.fixture(scope="module")
def parser():
    with DocumentParser() as made:
        yield made


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A parser whose xberg does what a document tells it: the child is our own, and real."""
    (tmp_path / "xberg.py").write_text(
        "import os, time, types\n"
        "ExtractInputKind = types.SimpleNamespace(BYTES='bytes')\n"
        "def ExtractInput(kind, bytes): return bytes\n"
        "def ExtractionConfig(**settings): pass\n"
        "async def extract(content, settings):\n"
        "    print('noise that is no reply', flush=True)\n"
        "    if content == b'crash': os.abort()\n"
        "    if content == b'exit': os._exit(3)\n"
        "    if content == b'hang': time.sleep(600)\n"
        "    text = 'x' * (1 << 33) if content == b'eat' else content.decode()\n"
        "    part = types.SimpleNamespace(content=f'<p>{text} by {os.getpid()}</p>')\n"
        "    return types.SimpleNamespace(errors=[], results=[part])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with DocumentParser(timeout_s=1.0, memory_bytes=1 << 30) as made:
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


def test_a_column_of_bytes_gives_a_text_or_a_reason_for_each_row(parser):
    batch = pa.record_batch({"file": pa.array([PDF, None, b"%PDF-1.4 no", DOCX], pa.binary())})
    first, null, broken, last = document_texts(batch, "file", parser)
    assert (first, null) == (parser.text(PDF), "")
    assert isinstance(broken, DocumentUnreadable)
    assert last == parser.text(DOCX)


def test_a_column_of_paths_reads_files_below_the_folder_and_no_others(parser, tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "policy.pdf").write_bytes(PDF)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    paths = ["policy.pdf", "../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "no.pdf",
             "bad\0name", "."]  # fmt: skip
    batch = pa.record_batch({"path": pa.array(paths)})
    found = document_texts(batch, "path", parser, folder=folder)
    assert found[0] == parser.text(PDF)
    assert all(isinstance(text, DocumentUnreadable) for text in found[1:])
    assert ["leads out of" in str(text) for text in found[1:4]] == [True] * 3


def test_columns_that_are_no_documents_are_named(parser):
    batch = pa.record_batch({"n": [1], "path": ["x.pdf"]})
    with pytest.raises(SchemaMismatch, match="'n' must be bytes or paths of documents"):
        document_texts(batch, "n", parser)
    with pytest.raises(SchemaMismatch, match="no folder is set"):
        document_texts(batch, "path", parser)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'headrace\[documents\]'"):
        DocumentParser()


def test_a_bomb_of_an_archive_is_refused_or_ends_the_child_alone():
    bomb = docx((None, "a" * 150_000_000))
    assert len(bomb) < 1_000_000
    with DocumentParser(timeout_s=30.0, memory_bytes=768 << 20) as small:
        with pytest.raises(DocumentUnreadable):
            small.text(bomb)
        assert small.text(PDF).startswith("Refunds")


def test_the_child_imports_nothing_of_ours():
    source = Path(importlib.util.find_spec("pipelines.sources.document_child").origin).read_text()
    assert "from pipelines" not in source
    assert "import pipelines" not in source
