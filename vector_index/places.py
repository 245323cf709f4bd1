"""From a passage's identity to its row, without a dictionary of a million strings."""

from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vector_index.disk import load_array


class Places:
    """Sorted 64-bit hashes of a segment's passages: a lookup is one binary search.

    Two passages may share a hash, so the true identity is compared before a row is given back.
    """

    def __init__(self, table: NDArray[np.uint64], passages: pa.Table) -> None:
        """table: uint64 (2, rows), the hashes in ascending order and the row of each."""
        self._hashes, self._rows = table
        self._ids, self._ordinals = passages["document_id"], passages["ordinal"]

    def find(self, document_id: str, ordinal: int) -> int:
        """The passage's row, -1 when it is not in the segment."""
        wanted = np.uint64(int.from_bytes(_digest(document_id, ordinal), "little"))
        at = int(self._hashes.searchsorted(wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            row = int(self._rows[at])
            if self._ordinals[row].as_py() == ordinal and self._ids[row].as_py() == document_id:
                return row
            at += 1
        return -1


def write_places(path: Path, passages: pa.Table) -> None:
    """Writes the table that `open_places` reads."""
    ids, ordinals = passages["document_id"].to_pylist(), passages["ordinal"].to_pylist()
    hashes = np.frombuffer(b"".join(map(_digest, ids, ordinals)), "<u8")
    order = np.argsort(hashes, kind="stable")
    np.save(path, np.stack([hashes[order], order.astype(np.uint64)]), allow_pickle=False)


def open_places(path: Path, passages: pa.Table) -> Places:
    """Opens a written table memory-mapped."""
    return Places(load_array(path, is_mapped=True).view(np.ndarray), passages)


def _digest(document_id: str, ordinal: int) -> bytes:
    return blake2b(f"{document_id}#{ordinal}".encode(), digest_size=8).digest()
