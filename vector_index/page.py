"""Reading an index from end to end, a page of documents at a time, in the order of their ids."""

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vector_index.checks import check_limit
from vector_index.found import Page, StoredDocument
from vector_index.passages import Access, Passage
from vector_index.view import Part, View

_LOOK_AHEAD = 1024

_Place = tuple[str, int, int]  # document id, part, position in the part


def read_page(view: View, *, after: str | None, limit: int, access: Access | None) -> Page:
    """As `BrowsableIndex.scan`."""
    check_limit(limit)
    streams = [_live_after(view, number, after) for number in range(len(view.parts))]
    places = heapq.merge(*streams)
    found: list[StoredDocument] = []
    while chosen := list(islice(places, limit)):
        found += _visible(_read(view, chosen), access, view)
        if len(found) > limit:
            break
    documents = tuple(found[:limit])
    return Page(documents, documents[-1].document_id if len(found) > limit else None)


def read_documents(view: View, document_ids: Sequence[str]) -> dict[str, StoredDocument]:
    """Those of these documents that are indexed, with their passages, by id."""
    found: dict[str, StoredDocument] = {}
    for part in view.parts:
        places = part.find(document_ids, view.version.sequence)
        found.update(_read_part(part, [(part.id_at(place), place) for place in places.tolist()]))
    return found


def read_vectors(view: View, document_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors of those of these documents that are indexed, float32 (passages, dim), by id."""
    return {
        part.id_at(place): part.vectors_at(part.rows_of(np.array([place], np.int64)))
        for part in view.parts
        for place in part.find(document_ids, view.version.sequence).tolist()
    }


def _live_after(view: View, number: int, after: str | None) -> Iterator[_Place]:
    part = view.parts[number]
    order = part.sorted_places()
    first = 0
    if after is not None:
        first = bisect_right(order, after, key=lambda place: part.id_at(int(place)))
    for start in range(first, len(order), _LOOK_AHEAD):
        places = order[start : start + _LOOK_AHEAD]
        for place in places[~part.dead(places, view.version.sequence)].tolist():
            yield part.id_at(place), number, place


def _read(view: View, places: list[_Place]) -> list[StoredDocument]:
    found: dict[str, StoredDocument] = {}
    for number in sorted({number for _, number, _ in places}):
        mine = [(key, place) for key, part, place in places if part == number]
        found.update(_read_part(view.parts[number], mine))
    return [found[key] for key, _, _ in places]


def _read_part(part: Part, places: list[tuple[str, int]]) -> dict[str, StoredDocument]:
    rows = part.rows_of(np.array([place for _, place in places], np.int64))
    passages: dict[str, list[Passage]] = {key: [] for key, _ in places}
    for passage in part.take(rows):
        passages[passage.document_id].append(passage)
    return {
        key: StoredDocument(key, part.hash_at(place), tuple(passages[key])) for key, place in places
    }


def _visible(
    documents: list[StoredDocument], access: Access | None, view: View
) -> Iterator[StoredDocument]:
    for document in documents:
        if access is None:
            yield document
            continue
        mine = tuple(p for p in document.passages if view.settings.may_see(p, access))
        if mine:
            yield StoredDocument(document.document_id, document.document_hash, mine)
