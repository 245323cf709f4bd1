"""Names for states of tables that keep no commit log."""

import hashlib

from vector_index.passages import SourceVersion

# 52 bits are exact as a number in JSON, whoever reads it; two states share one once in 10^15.
_VERSION_DIGITS = 13


def as_version(fingerprint: str) -> int:
    """A hexadecimal SHA-256 as the whole number a SourceVersion holds. It has no order."""
    return int(fingerprint[:_VERSION_DIGITS], 16)


def short_id(kind: str, *parts: str) -> str:
    """A table id of letters and digits, from what the table is found by."""
    text = "\x1f".join(parts)
    return f"{kind}{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def is_same_state(one: SourceVersion, other: SourceVersion) -> bool:
    """Whether the two name the same rows; an object put again as it was is younger, not other."""
    return (one.table_id, one.version, one.schema_fingerprint) == (
        other.table_id,
        other.version,
        other.schema_fingerprint,
    )
