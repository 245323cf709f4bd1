"""What a GGUF file says of its model.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 2 and 3, little endian).
"""

import mmap
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from llm_endpoint.errors import WeightsUnreadable

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9


def read_gguf(file: Path, keys: Collection[str]) -> Mapping[str, object]:
    """The entries of these keys that the file has. Raises WeightsUnreadable."""
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return {key: value for key, value in _metadata(data) if key in keys}
        except (struct.error, KeyError, UnicodeDecodeError, ValueError) as exc:
            raise WeightsUnreadable(file, f"not a GGUF file we can read: {exc}") from exc


def cache_bytes_per_token(file: Path) -> int:
    """What llama.cpp keeps of each token of a context: keys and values of all layers, 16 bits
    each. Raises WeightsUnreadable."""
    (kind,) = read_gguf(file, ("general.architecture",)).values()
    names = ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv",
             "attention.key_length", "attention.value_length")  # fmt: skip
    found = read_gguf(file, [f"{kind}.{name}" for name in names])
    layers, width, heads, pairs, key, value = (
        _number(found.get(f"{kind}.{name}")) for name in names
    )
    if not (layers and width and heads):
        raise WeightsUnreadable(file, "it does not say how many layers, heads or dimensions it has")
    of_head = (key or width // heads) + (value or width // heads)
    return 2 * layers * (pairs or heads) * of_head


def _number(value: object) -> int:
    """0 for none. Of a list, one a layer, the most: an upper bound."""
    if isinstance(value, list):
        return max((item for item in value if isinstance(item, int)), default=0)
    return value if isinstance(value, int) else 0


def _metadata(data: mmap.mmap) -> Iterator[tuple[str, object]]:
    """The entries of the file's key-value section."""
    magic, version, _, count = struct.unpack_from("<4sIQQ", data, 0)
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"magic {magic!r}, version {version}")
    position = 24
    for _ in range(count):
        key, position = _string(data, position)
        (kind,) = struct.unpack_from("<I", data, position)
        value, position = _value(data, position + 4, kind)
        yield key, value


def _value(data: mmap.mmap, position: int, kind: int) -> tuple[object, int]:
    if kind == _STRING:
        return _string(data, position)
    if kind != _ARRAY:
        code = _SCALARS[kind]
        return struct.unpack_from(f"<{code}", data, position)[0], position + struct.calcsize(code)
    inner, length = struct.unpack_from("<IQ", data, position)
    position += 12
    if inner in _SCALARS:
        values = struct.unpack_from(f"<{length}{_SCALARS[inner]}", data, position)
        return list(values), position + length * struct.calcsize(_SCALARS[inner])
    items = []
    for _ in range(length):
        item, position = _value(data, position, inner)
        items.append(item)
    return items, position


def _string(data: mmap.mmap, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, position)
    start = position + 8
    return data[start : start + length].decode("utf-8"), start + length
