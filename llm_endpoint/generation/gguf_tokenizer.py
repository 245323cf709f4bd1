"""The tokenizer inside a GGUF file, for counting tokens without asking the engine.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 2 and 3, little endian).
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence

from llm_endpoint.errors import WeightsUnreadable

_WANTED = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
           "tokenizer.ggml.merges", "tokenizer.ggml.token_type")  # fmt: skip
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_CONTROL = 3
# How each family of models splits text before BPE; what is not here is counted by the engine.
_SPLITS: dict[str, tuple[PreTokenizer, ...]] = {
    "gpt-2": (ByteLevel(add_prefix_space=False),),
    "smollm": (Digits(individual_digits=True), ByteLevel(add_prefix_space=False)),
}


def load_gguf_tokenizer(file: Path) -> Tokenizer | None:
    """The byte-level BPE tokenizer of a GGUF file, or None where it has one of another kind.

    Control tokens written out in a text are recognised, as the engine does. Raises
    WeightsUnreadable.
    """
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            found = dict(_metadata(data))
        except (struct.error, KeyError, UnicodeDecodeError, ValueError) as exc:
            raise WeightsUnreadable(file, f"not a GGUF file we can read: {exc}") from exc
    split = _SPLITS.get(str(found.get("tokenizer.ggml.pre")))
    lists = [found.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type")]
    tokens, merges, kinds = (held if isinstance(held, list) else [] for held in lists)
    if split is None or not (tokens and merges and kinds):
        return None
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE(vocabulary, pairs))
    tokenizer.pre_tokenizer = Sequence(list(split))
    controls = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens(controls)
    return tokenizer


def _metadata(data: mmap.mmap) -> Iterator[tuple[str, object]]:
    """The wanted entries of the file's key-value section."""
    magic, version, _, count = struct.unpack_from("<4sIQQ", data, 0)
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"magic {magic!r}, version {version}")
    position = 24
    for _ in range(count):
        key, position = _string(data, position)
        (kind,) = struct.unpack_from("<I", data, position)
        value, position = _value(data, position + 4, kind)
        if key in _WANTED:
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
