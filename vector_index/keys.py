"""From a document id to its place in a segment, without a dictionary of a million strings."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vector_index.disk import load_array

_FILE = "keys.npy"
_VECTORISED_FROM = 16


class Keys:
    """Sorted 64-bit hashes of a segment's document ids: a lookup is one binary search.

    Two ids may share a hash, so the true id is compared before a place is given back.
    """

    def __init__(self, table: NDArray[np.uint64], ids: pa.ChunkedArray) -> None:
        self._hashes, self._places = table
        self._ids = ids

    def find(self, document_id: str, hashed: np.uint64 | None = None) -> int:
        """The document's place in the segment, -1 when it is not there.

        hashed: the id's `hash_id`, where it is known already.
        """
        wanted = hash_id(document_id) if hashed is None else hashed
        at = int(self._hashes.searchsorted(wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            place = int(self._places[at])
            if self._ids[place].as_py() == document_id:
                return place
            at += 1
        return -1

    def find_many(self, document_ids: Sequence[str]) -> NDArray[np.int64]:
        """The places of many ids, int64 (len(document_ids),), -1 where one is not there."""
        found = np.full(len(document_ids), -1, np.int64)
        if len(document_ids) < _VECTORISED_FROM:
            found[:] = [self.find(document_id) for document_id in document_ids]
            return found
        if not len(self._hashes):
            return found
        wanted = hash_ids(document_ids)
        at = np.minimum(self._hashes.searchsorted(wanted), len(self._hashes) - 1)
        maybe = np.flatnonzero(self._hashes[at] == wanted)
        places = self._places[at[maybe]].astype(np.int64)
        stored = self._ids.take(pa.array(places)).to_pylist()
        for number, place, key in zip(maybe.tolist(), places.tolist(), stored, strict=True):
            # Where another id has the same hash, the slow way finds the right one.
            is_it = key == document_ids[number]
            found[number] = place if is_it else self.find(document_ids[number])
        return found

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Every place, in the order of the ids; sorted at its first use."""
        order: NDArray[np.int64] = pc.sort_indices(self._ids).to_numpy().astype(np.int64)
        return order


def hash_id(document_id: str) -> np.uint64:
    """The stable 64-bit hash of one id."""
    return np.uint64(int.from_bytes(_digest(document_id), "little"))


def hash_ids(document_ids: Sequence[str]) -> NDArray[np.uint64]:
    """The stable 64-bit hash of each id, uint64 (len(document_ids),)."""
    return np.frombuffer(b"".join(map(_digest, document_ids)), "<u8")


def write_keys(folder: Path, document_ids: Sequence[str]) -> None:
    """Writes the sorted hashes and the place of each: uint64 (2, documents)."""
    hashes = hash_ids(document_ids)
    order = np.argsort(hashes, kind="stable")
    table = np.stack([hashes[order], order.astype(np.uint64)])
    np.save(folder / _FILE, table, allow_pickle=False)


def open_keys(folder: Path, ids: pa.ChunkedArray) -> Keys:
    """Opens written keys memory-mapped."""
    return Keys(load_array(folder / _FILE, is_mapped=True).view(np.ndarray), ids)


def _digest(document_id: str) -> bytes:
    return blake2b(document_id.encode(), digest_size=8).digest()
