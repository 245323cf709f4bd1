"""What things are called in Milvus, whose names hold letters, digits and underscores only."""

import re
from dataclasses import dataclass

PASSAGES_FIELDS = (
    "id", "document_id", "since", "until", "loose", "tenant", "allowed_groups", "text", "facts",
    "terms", "term_weights", "vector",
)  # fmt: skip
FOREVER = 2**63 - 1
"""The `until` of a row that nothing has replaced yet."""


@dataclass(frozen=True, slots=True)
class Collections:
    """The three collections of one index."""

    passages: str
    documents: str
    state: str


def collections_of(index: str) -> Collections:
    """The names of an index's collections, different for different indexes."""
    stem = f"headrace_{_encoded(index)}"
    return Collections(f"{stem}_passages", f"{stem}_documents", f"{stem}_state")


def value_field(column: str) -> str:
    """The field that holds a metadata column's values."""
    return f"m_{_encoded(column)}"


def words_field(column: str) -> str:
    """The field that holds the words of a string column, for `like`."""
    return f"w_{_encoded(column)}"


def sort_key(document_id: str) -> str:
    """The id in hexadecimal: sorts as the id does, and has nothing in it to escape.

    pymilvus' own iterator puts primary keys into expressions as they are.
    """
    return document_id.encode().hex()


def _encoded(name: str) -> str:
    """Injective: an underscore becomes two, anything unusual `_x<code point>_`."""
    return re.sub(
        r"[^A-Za-z0-9]",
        lambda found: "__" if found[0] == "_" else f"_x{ord(found[0]):x}_",
        name,
    )
