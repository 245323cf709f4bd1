"""Real PDF and Word files made by hand, and an xberg that does what a document tells it."""

import io
import zipfile

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

_OBEDIENT = """
import os, time, types
from pathlib import Path
ExtractInputKind = types.SimpleNamespace(BYTES='bytes')
def ExtractInput(kind, bytes): return bytes
def ExtractionConfig(**settings): pass
async def extract(content, settings):
    print('noise that is no reply', flush=True)
    if not Path(__file__).with_name('cured').exists():
        if content == b'crash': os.abort()
        if content == b'exit': os._exit(3)
        if content == b'hang': time.sleep(600)
    text = 'x' * (1 << 33) if content == b'eat' else content.decode()
    part = types.SimpleNamespace(content=f'<p>{text}SIGNATURE</p>')
    return types.SimpleNamespace(errors=[], results=[part])
"""


def obey_documents(folder, monkeypatch, *, signed=False):
    """Children started from here on have the xberg of this folder; a file `cured` tames it.

    signed: the text says which process read it. A process id is a word like any other to an
    embedder, and now and then it is alike to the word that a test looks for.
    """
    signature = " by {os.getpid()}" if signed else ""
    (folder / "xberg.py").write_text(_OBEDIENT.replace("SIGNATURE", signature))
    monkeypatch.setenv("PYTHONPATH", str(folder))
