"""Full text on disk: one tantivy index a generation, which shares its parent's immutable files.

Tantivy writes a segment's files once and never again; only `meta.json` and `.managed.json` are
replaced (by rename). A generation's folder therefore starts as hard links to the parent's segment
files and copies of those two, and one commit turns it into the next state. Files that the commit
makes superfluous are unlinked in the new folder only.

Tantivy counts deleted passages in its statistics until a merge drops them, so after many changes
scores drift a little from those of a fresh index; `dead_share` says how much there is to drop.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import tantivy
from tantivy import Occur, Query

from vector_index.disk import link_or_copy
from vector_index.errors import FullTextFailed, IndexCorrupt
from vector_index.fulltext.protocol import (
    FIELD_BOOSTS,
    IsAllowed,
    TextField,
    TextHit,
    best_first,
)
from vector_index.fulltext.tokens import query_terms, tokens
from vector_index.passages import Access

# One thread, so that the same change gives the same segments. Past the heap's size tantivy cuts
# a segment; its merge policy joins eight of like size, so their number grows with the logarithm.
_WRITER_HEAP_BYTES = 64_000_000
# Passages that are Python objects at a time.
_ROWS_AT_ONCE = 1024
_META = "meta.json"
_LENGTHS = "lengths.json"
_COPIED = frozenset({_META, ".managed.json"})
# How many candidates beyond k are looked at to order equal scores by key; past it they stay in
# the order of their rows.
_MAX_TIES = 1000
_REMOVALS = 100
_REMOVAL_PAUSE_S = 0.01
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Terms ever added to a field and its ancestors, for the average length of a passage."""

    passages: int = 0
    title: int = 0
    text: int = 0


def extend_fulltext(
    folder: Path, *, parent: Path | None, passages: pa.Table, gone: Sequence[str]
) -> None:
    """Writes into `folder` (new or empty) the parent's full text, changed.

    parent: a finished full text folder, which is only read; None starts an empty one.
    passages: `passage_schema`; each document in it replaces all the parent has of it.
    gone: ids of documents to forget.
    Nothing is synced. Raises FullTextFailed when it cannot be written; drop the folder then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if parent is not None:
        _inherit(folder, parent)
    replaced = {*gone, *passages["document_id"].to_pylist()} if parent is not None else set()
    try:
        index = tantivy.Index(_SCHEMA, path=str(folder))
        writer = index.writer(heap_size=_WRITER_HEAP_BYTES, num_threads=1)
        for document_id in sorted(replaced):
            writer.delete_documents_by_term("key", _key(document_id))
        lengths = _add(writer, passages, _read_lengths(folder))
        writer.commit()
        writer.wait_merging_threads()
    except ValueError as exc:
        raise FullTextFailed(f"full text in {folder} could not be written: {exc}") from exc
    (folder / _LENGTHS).write_text(json.dumps(asdict(lengths)), encoding="utf-8")
    for lock in folder.glob("*.lock"):
        lock.unlink()


def dead_share(folder: Path) -> float:
    """Which part of the passages in `folder` is deleted but still stored and counted, 0 to 1.

    Writing all live passages anew, with `parent=None`, brings it to 0.
    """
    segments = _segments(folder)
    total = sum(count for count, _ in segments)
    return sum(dead for _, dead in segments) / total if total else 0.0


def open_fulltext(folder: Path, *, has_tenant: bool, has_groups: bool) -> "TantivyText":
    """Opens what `extend_fulltext` wrote. Raises IndexCorrupt when it is not readable.

    has_tenant, has_groups: whether rows are restricted by tenant and by group.
    """
    try:
        stored = sum(count for count, _ in _segments(folder))
        return TantivyText(_searcher(folder), stored, _read_lengths(folder), has_tenant, has_groups)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise IndexCorrupt(f"full text in {folder} cannot be opened: {exc}") from exc


class TantivyText:
    """A FullText over a finished folder. Open it with `open_fulltext`.

    Safe to search from several threads; the interpreter is free while tantivy works.
    """

    def __init__(
        self,
        searcher: tantivy.Searcher,
        passages: int,
        lengths: Lengths,
        has_tenant: bool,
        has_groups: bool,
    ) -> None:
        self._searcher = searcher
        self._passages = passages
        self._lengths = lengths
        self._has_tenant = has_tenant
        self._has_groups = has_groups

    @property
    def passages(self) -> int:
        return self._passages

    def average_length(self, field: TextField) -> float:
        total: int = getattr(self._lengths, field)
        return total / self._lengths.passages if self._lengths.passages else 0.0

    def passages_with(self, field: TextField, term: str) -> int:
        return self._searcher.doc_freq(field, term)

    def search(self, text: str, k: int, *, access: Access, is_allowed: IsAllowed) -> list[TextHit]:
        """As `FullText.search`; of more than 1000 equal scores not all are ordered by key."""
        query = self._query(text, access)
        if query is None or k < 1:
            return []
        found: list[TextHit] = []
        ranked = self._ranked(query, first=min(k, self._passages))
        for seen, hit in enumerate(ranked):
            is_complete = len(found) >= k
            if is_complete and (hit.score < found[k - 1].score or seen >= k + _MAX_TIES):
                break
            if is_allowed(hit.document_id, hit.ordinal):
                found.append(hit)
        return sorted(found, key=best_first)[:k]

    def _ranked(self, query: Query, *, first: int) -> Iterator[TextHit]:
        """Every match, best first, fetched in pages of doubling size."""
        offset, limit = 0, first + 1
        while True:
            page = self._searcher.search(query, limit=limit, offset=offset, count=False).hits
            for score, address in page:
                stored = self._searcher.doc(address)
                yield TextHit(bytes(stored["document_id"][0]).decode(), stored["ordinal"][0], score)
            if len(page) < limit:
                return
            offset, limit = offset + limit, 2 * (offset + limit)

    def _query(self, text: str, access: Access) -> Query | None:
        """The terms, any of them, and who may see the passage; None if nothing can match."""
        terms = query_terms(text)
        if not terms or (self._has_groups and not access.groups):
            return None
        matching = [
            (Occur.Should, Query.boost_query(Query.term_query(_SCHEMA, field, term, "freq"), boost))
            for term in terms
            for field, boost in FIELD_BOOSTS.items()
        ]
        must = [Query.boolean_query(matching)]
        if self._has_tenant:
            must.append(_unscored(Query.term_query(_SCHEMA, "tenant", access.tenant, "basic")))
        if self._has_groups:
            groups = sorted(access.groups)
            must.append(_unscored(Query.term_set_query(_SCHEMA, "allowed_groups", groups)))
        return Query.boolean_query([(Occur.Must, part) for part in must])


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    # Deletes go by a hash of the document id: tantivy silently skips terms past 65,530 bytes.
    builder.add_text_field("key", tokenizer_name="raw", index_option="basic")
    builder.add_bytes_field("document_id", stored=True)
    builder.add_integer_field("ordinal", stored=True)
    # Fields hold our own terms joined by spaces, so that both implementations see the same.
    builder.add_text_field("title", tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field("text", tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field("tenant", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("allowed_groups", tokenizer_name="raw", index_option="basic")
    return builder.build()


_SCHEMA = _schema()


def _inherit(folder: Path, parent: Path) -> None:
    for path in parent.iterdir():
        if path.name in _COPIED or path.name == _LENGTHS:
            (folder / path.name).write_bytes(path.read_bytes())
        elif path.suffix != ".lock":
            link_or_copy(path, folder / path.name)


def _add(writer: tantivy.IndexWriter, passages: pa.Table, lengths: Lengths) -> Lengths:
    title_length, text_length = lengths.title, lengths.text
    names = ["document_id", "ordinal", "title", "text", "tenant", "allowed_groups"]
    for batch in passages.select(names).to_batches(max_chunksize=_ROWS_AT_ONCE):
        for document_id, ordinal, title, text, tenant, groups in zip(
            *(column.to_pylist() for column in batch.columns), strict=True
        ):
            title_terms, text_terms = tokens(title), tokens(text)
            title_length += len(title_terms)
            text_length += len(text_terms)
            document = tantivy.Document()
            document.add_text("key", _key(document_id))
            document.add_bytes("document_id", document_id.encode())
            document.add_integer("ordinal", ordinal)
            document.add_text("title", " ".join(title_terms))
            document.add_text("text", " ".join(text_terms))
            if tenant is not None:
                document.add_text("tenant", tenant)
            for group in groups or ():
                document.add_text("allowed_groups", group)
            writer.add_document(document)
    return Lengths(lengths.passages + passages.num_rows, title_length, text_length)


def _searcher(folder: Path) -> tantivy.Searcher:
    """A searcher that holds the files open, leaves no trace in `folder`, and never reloads.

    Tantivy writes a lock file beside what it opens, which a read-only volume refuses and a
    published generation should not grow: it opens a folder of links instead, gone at once.
    """
    links = Path(tempfile.mkdtemp(prefix="headrace-fulltext-"))
    try:
        for path in folder.resolve().iterdir():
            if path.suffix != ".lock":
                os.symlink(path, links / path.name)
        return tantivy.Index.open(str(links)).searcher()
    finally:
        _remove(links)


def _remove(links: Path) -> None:
    """Removes the folder, also while tantivy's own thread writes its lock file once more."""
    for _ in range(_REMOVALS):
        shutil.rmtree(links, ignore_errors=True)
        if not links.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)
    _log.warning("temporary folder left behind: %s", links)


def _segments(folder: Path) -> list[tuple[int, int]]:
    """Passages stored and passages deleted, per tantivy segment."""
    meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    return [
        (entry["max_doc"], (entry["deletes"] or {"num_deleted_docs": 0})["num_deleted_docs"])
        for entry in meta["segments"]
    ]


def _read_lengths(folder: Path) -> Lengths:
    path = folder / _LENGTHS
    return Lengths(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Lengths()


def _key(document_id: str) -> str:
    return blake2b(document_id.encode(), digest_size=16).hexdigest()


def _unscored(query: Query) -> Query:
    return Query.const_score_query(query, 0.0)
