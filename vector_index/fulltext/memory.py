"""Full text in memory: the reference that the others are compared with, and for small data."""

from collections.abc import Iterable

from vector_index.fulltext.postings import Postings
from vector_index.fulltext.protocol import IsAllowed, TextHit, best_first
from vector_index.passages import Access, Passage, may_see


class MemoryText:
    """A FullText that changes in place: one thread adds and removes, any number search.

    has_tenant, has_groups: whether rows are restricted by tenant and by group.
    """

    def __init__(self, *, has_tenant: bool, has_groups: bool) -> None:
        self._has_tenant = has_tenant
        self._has_groups = has_groups
        self._postings = Postings()
        self._passages: dict[int, Passage] = {}
        self._documents: dict[str, list[int]] = {}
        self._next = 0

    def add(self, passages: Iterable[Passage]) -> None:
        """Adds passages beside what is there; remove a document first to replace it."""
        for passage in passages:
            number, self._next = self._next, self._next + 1
            self._passages[number] = passage
            self._documents.setdefault(passage.document_id, []).append(number)
            self._postings.add(number, passage)

    def remove(self, document_ids: Iterable[str]) -> None:
        """Forgets every passage of these documents; unknown ones are ignored."""
        for document_id in document_ids:
            for number in self._documents.pop(document_id, ()):
                self._postings.forget(number)
                del self._passages[number]

    def search(self, text: str, k: int, *, access: Access, is_allowed: IsAllowed) -> list[TextHit]:
        """As `FullText.search`."""
        hits = [
            TextHit(passage.document_id, passage.ordinal, score)
            for number, score in self._postings.scores(text).items()
            if (passage := self._passages.get(number)) and self._may_see(passage, access)
        ]
        hits.sort(key=best_first)
        return _first(hits, k, is_allowed)

    def _may_see(self, passage: Passage, access: Access) -> bool:
        return may_see(passage, access, has_tenant=self._has_tenant, has_groups=self._has_groups)


def _first(hits: list[TextHit], k: int, is_allowed: IsAllowed) -> list[TextHit]:
    found: list[TextHit] = []
    for hit in hits:
        if len(found) >= k:
            break
        if is_allowed(hit.document_id, hit.ordinal):
            found.append(hit)
    return found
