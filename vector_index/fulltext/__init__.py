"""Passages by the words in them: BM25 on disk and in memory, with one set of rules for words.

The only folder that imports tantivy.
"""

from vector_index.fulltext.memory import MemoryText
from vector_index.fulltext.postings import Postings
from vector_index.fulltext.protocol import FullText, Statistics, TextHit, best_first
from vector_index.fulltext.tantivy_text import (
    TantivyText,
    dead_share,
    extend_fulltext,
    open_fulltext,
)

__all__ = [
    "FullText",
    "MemoryText",
    "Postings",
    "Statistics",
    "TantivyText",
    "TextHit",
    "best_first",
    "dead_share",
    "extend_fulltext",
    "open_fulltext",
]
