"""Passages as rows of a Milvus collection, and back.

`facts` is the truth about a passage; the typed fields beside it exist to be filtered on.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import InvalidDelta
from vector_index.filter_tree import tokens as words_of
from vector_index.fulltext.tokens import tokens as terms_of
from vector_index.manifest import IndexSettings
from vector_index.milvus.expressions import microseconds, moment
from vector_index.milvus.names import FOREVER, sort_key, value_field, words_field
from vector_index.passages import MetadataType, MetadataValue, Passage

# Milvus's own limits.
MAX_STRING_BYTES = 65_535
MAX_ARRAY = 4096

Row = dict[str, object]
_Stored = None | bool | int | float | str | list[str]


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage as it came back. vector: float32 (dim,)."""

    passage: Passage
    vector: NDArray[np.float32]

    @property
    def key(self) -> tuple[str, int]:
        return self.passage.document_id, self.passage.ordinal


def document_row(document_id: str, document_hash: str, step: int) -> Row:
    """The row that says that a document is indexed, with passages or without."""
    return {
        "id": _fitting(f"{sort_key(document_id)}-{step}", "id in hexadecimal", document_id),
        "document_id": document_id,
        "document_hash": _fitting(document_hash, "hash", document_id),
        "since": step,
        "until": FOREVER,
        "unused": [0.0, 0.0],
    }


def passage_row(
    passage: Passage, vector: NDArray[np.float32], step: int, settings: IndexSettings
) -> Row:
    """The passage as a row that lives from that step on. Raises InvalidDelta for one too long."""
    terms = " ".join([*terms_of(passage.title), *terms_of(passage.text)])
    groups, has_all_groups = _array(passage.allowed_groups)
    row: Row = {
        "id": f"{sort_key(passage.document_id)}-{passage.ordinal}-{step}",
        "document_id": passage.document_id,
        "since": step,
        "until": FOREVER,
        "tenant": passage.tenant,
        "allowed_groups": groups,
        "text": _fitting(passage.text, "text", passage.document_id),
        "facts": _fitting(_facts(passage), "title, groups and metadata", passage.document_id),
        "terms": _fitting(terms, "words", passage.document_id),
        "vector": vector,
    }
    is_loose = not has_all_groups
    for column, kind in settings.metadata_columns.items():
        is_loose |= not _add_column(row, column, kind, passage.metadata.get(column))
    row["loose"] = is_loose
    return row


def stored_passage(row: Mapping[str, object], settings: IndexSettings) -> StoredPassage:
    """The passage and vector of a row."""
    facts = json.loads(str(row["facts"]))
    groups, updated_at = facts["allowed_groups"], facts["updated_at"]
    metadata = {
        column: _revived(facts["metadata"][column], kind)
        for column, kind in settings.metadata_columns.items()
    }
    passage = Passage(
        document_id=str(row["document_id"]),
        ordinal=facts["ordinal"],
        title=facts["title"],
        text=str(row["text"]),
        start=facts["start"],
        end=facts["end"],
        text_hash=facts["text_hash"],
        tenant=facts["tenant"],
        allowed_groups=None if groups is None else tuple(groups),
        updated_at=None if updated_at is None else moment(updated_at),
        metadata=metadata,
    )
    return StoredPassage(passage, np.asarray(row["vector"], np.float32))


def _facts(passage: Passage) -> str:
    updated_at = passage.updated_at
    facts = {
        "ordinal": passage.ordinal,
        "title": passage.title,
        "start": passage.start,
        "end": passage.end,
        "text_hash": passage.text_hash,
        "tenant": passage.tenant,
        "allowed_groups": passage.allowed_groups,
        "updated_at": None if updated_at is None else microseconds(updated_at),
        "metadata": {name: _plain(value) for name, value in passage.metadata.items()},
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


def _plain(value: MetadataValue) -> _Stored:
    if isinstance(value, datetime):
        return microseconds(value)
    if isinstance(value, date):
        return value.toordinal()
    return list(value) if isinstance(value, tuple) else value


def _revived(value: object, kind: MetadataType) -> MetadataValue:
    if isinstance(value, int) and kind == "timestamp":
        return moment(value)
    if isinstance(value, int) and kind == "date":
        return date.fromordinal(value)
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


def _add_column(row: Row, column: str, kind: MetadataType, value: MetadataValue) -> bool:
    """Adds what a filter looks at; False where Milvus cannot hold all of it."""
    plain = _plain(value)
    if kind == "strings":
        assert value is None or isinstance(value, tuple)
        row[value_field(column)], fits = _array(value)
        return fits
    fits = not (isinstance(plain, float) and not math.isfinite(plain))
    row[value_field(column)] = plain if fits else None
    if kind == "string":
        words = None if value is None else sorted(words_of(str(value)))
        row[words_field(column)], fits = _array(words)
    return fits


def _array(values: Sequence[str] | None) -> tuple[list[str] | None, bool]:
    """The values but for nulls, which no filter can look for; False where some had no room."""
    if values is None:
        return None, True
    present = [value for value in values if value is not None]
    return present[:MAX_ARRAY], len(present) <= MAX_ARRAY


def _fitting(text: str, what: str, document_id: str) -> str:
    if (size := len(text.encode())) > MAX_STRING_BYTES:
        raise InvalidDelta(
            f"the {what} of document {document_id[:80]!r} or of one of its passages: {size} bytes; "
            f"Milvus keeps {MAX_STRING_BYTES} in a field, so cut passages shorter (max_tokens)"
        )
    return text
