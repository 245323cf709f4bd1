"""One batch of rows made into passages."""

import pyarrow as pa
import pytest

from pipelines.chunking import Chunk
from pipelines.errors import BadRow
from pipelines.rows import passages_of
from pipelines.sources import ColumnMapping

MAPPING = ColumnMapping("id", "title", "body")


def halves(text):
    middle = len(text) // 2
    return [Chunk(text[:middle], 0, middle), Chunk(text[middle:], middle, len(text))]


def batch(**columns):
    return pa.RecordBatch.from_pydict(columns)


def test_each_passage_carries_what_its_document_says():
    rows = batch(id=["a", "b"], title=["A", None], body=["onetwo", "xy"], kind=["k", "l"])
    passages, owners = passages_of(rows, MAPPING, halves, {"kind": "string"})
    assert owners.tolist() == [0, 0, 1, 1]
    assert passages["document_id"].to_pylist() == ["a", "a", "b", "b"]
    assert passages["ordinal"].to_pylist() == [0, 1, 0, 1]
    assert passages["title"].to_pylist() == ["A", "A", "", ""]
    assert passages["text"].to_pylist() == ["one", "two", "x", "y"]
    assert passages["metadata"].to_pylist() == [{"kind": "k"}] * 2 + [{"kind": "l"}] * 2


def test_a_long_document_is_not_copied_once_for_each_of_its_passages():
    """2,500 copies of 1 MB are more bytes than a string array of Arrow can count."""
    text = "word " * 200_000

    def many(whole):
        return [Chunk(whole[at : at + 400], at, at + 400) for at in range(0, len(whole), 400)]

    passages, owners = passages_of(batch(id=["a"], title=["A"], body=[text]), MAPPING, many, {})
    assert len(owners) == passages.num_rows == 2500
    assert "".join(passages["text"].to_pylist()) == text


def test_the_key_may_be_the_title_and_the_text_a_metadata_column():
    mapping = ColumnMapping("id", "id", "body")
    rows = batch(id=["a"], body=["xy"])
    passages, _ = passages_of(rows, mapping, halves, {"body": "string"})
    assert passages["title"].to_pylist() == ["a", "a"]
    assert passages["metadata"].to_pylist() == [{"body": "xy"}] * 2


def test_a_value_that_is_not_text_is_refused_by_the_documents_name():
    broken = pa.array([b"\xff"], pa.binary()).view(pa.string())
    rows = pa.RecordBatch.from_arrays(
        [pa.array(["a"]), pa.array(["A"]), broken], names=["id", "title", "body"]
    )
    with pytest.raises(BadRow, match="document 'a'"):
        passages_of(rows, MAPPING, halves, {})
