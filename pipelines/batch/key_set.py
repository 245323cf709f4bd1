"""Which keys there are, in 16 bytes a key: tables are longer than memory is large."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_DIGEST_BYTES = 16


class KeySet:
    """A set of keys by their digests: two keys of one digest are less likely than a broken disk."""

    def __init__(self) -> None:
        self._added = bytearray()
        self._sorted: NDArray[np.bytes_] = _digests(b"")

    def add(self, keys: Iterable[object]) -> None:
        """Keys may be added before the first `has`, not after."""
        for key in keys:
            self._added += _digest(key)

    def close(self) -> int:
        """Ends adding; how many keys were added that were there already."""
        digests = _digests(bytes(self._added))
        self._sorted = np.unique(digests)
        self._added = bytearray()
        return len(digests) - len(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)

    def has(self, keys: Sequence[object]) -> list[bool]:
        """Of each key, whether it is in the set."""
        if not len(self._sorted):
            return [False] * len(keys)
        asked = _digests(b"".join(map(_digest, keys)))
        at = np.minimum(np.searchsorted(self._sorted, asked), len(self._sorted) - 1)
        return [bool(same) for same in self._sorted[at] == asked]


def _digest(key: object) -> bytes:
    # 1 and "1" never meet: a column has one type.
    return hashlib.blake2b(str(key).encode("utf-8"), digest_size=_DIGEST_BYTES).digest()


def _digests(joined: bytes) -> NDArray[np.bytes_]:
    return np.frombuffer(joined, dtype=f"S{_DIGEST_BYTES}")
