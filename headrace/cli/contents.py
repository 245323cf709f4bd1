"""`headrace index stats|scan`: what an index holds."""

import json as json_module
from dataclasses import asdict

from headrace import assembly, indexes
from headrace.settings import load_settings
from vector_index.found import Page, StoredDocument
from vector_index.generation import published
from vector_index.local import LocalIndex


def run_stats(name: str, as_json: bool) -> None:
    """Prints the numbers of an index, and a line a segment."""
    home = indexes.published_home(load_settings(), name)
    manifest = published(home)
    assert manifest is not None
    stats = LocalIndex(home, manifest.settings).stats()
    if as_json:
        print(json_module.dumps(asdict(stats)))
        return
    print(
        f"{name}: generation {stats.generation}, {stats.documents} documents, "
        f"{stats.passages} passages, {stats.size_bytes / 1e6:.1f} MB on disk"
    )
    for segment in stats.segments:
        print(
            f"  {segment.id}  {segment.kind}, {segment.passages} passages, "
            f"{segment.dead_passages} of them dead, {segment.size_bytes / 1e6:.1f} MB: "
            f"{segment.reason}"
        )


def run_scan(name: str, after: str | None, limit: int, as_json: bool) -> None:
    """Prints the next documents by id: a line each, or one JSON object with `next`."""
    settings = load_settings()
    index = indexes.published_index(settings, name)
    page = index.scan(after=after, limit=limit, access=assembly.access_of(settings))
    if as_json:
        print(json_module.dumps(_page_form(page), default=str))
        return
    for document in page.documents:
        print(f"{document.document_id}  {len(document.passages)} passages  {_title(document)!r}")
    if page.next is not None:
        print(f"more: --after {page.next!r}")


def _page_form(page: Page) -> dict[str, object]:
    return {"documents": [asdict(document) for document in page.documents], "next": page.next}


def _title(document: StoredDocument) -> str:
    return document.passages[0].title if document.passages else ""
