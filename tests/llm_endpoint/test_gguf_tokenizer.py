"""GGUF files that are not what they should be."""

import struct

import pytest

from llm_endpoint.errors import WeightsUnreadable
from llm_endpoint.generation.gguf_tokenizer import load_gguf_tokenizer


def gguf(entries):
    """A GGUF file of string entries and string-array entries."""
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, 0, len(entries))]
    for key, value in entries.items():
        parts.append(struct.pack("<Q", len(key)) + key.encode())
        if isinstance(value, str):
            parts.append(struct.pack("<IQ", 8, len(value)) + value.encode())
        else:
            kind = 8 if value and isinstance(value[0], str) else 5
            parts.append(struct.pack("<IIQ", 9, kind, len(value)))
            for item in value:
                if kind == 8:
                    parts.append(struct.pack("<Q", len(item)) + item.encode())
                else:
                    parts.append(struct.pack("<i", item))
    return b"".join(parts)


ENTRIES = {
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<end>"],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3],
}


def test_merges_and_control_tokens_are_applied(tmp_path):
    (tmp_path / "m.gguf").write_bytes(gguf(ENTRIES))
    tokenizer = load_gguf_tokenizer(tmp_path / "m.gguf")
    assert tokenizer.encode("abb<end>").ids == [2, 1, 3]


def test_a_tokenizer_of_another_kind_is_left_to_the_engine(tmp_path):
    (tmp_path / "m.gguf").write_bytes(gguf({**ENTRIES, "tokenizer.ggml.pre": "unheard-of"}))
    assert load_gguf_tokenizer(tmp_path / "m.gguf") is None


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b"GGML" + b[4:], lambda b: b[:9]])
def test_a_damaged_file_is_named(tmp_path, damage):
    (tmp_path / "m.gguf").write_bytes(damage(gguf(ENTRIES)))
    with pytest.raises(WeightsUnreadable, match=r"m\.gguf"):
        load_gguf_tokenizer(tmp_path / "m.gguf")
