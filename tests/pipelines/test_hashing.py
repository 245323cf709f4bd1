"""A row's hash is of what it says, not of how Arrow or the table keeps it."""

from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import MAPPING, WRITTEN, row

from pipelines.errors import SchemaMismatch
from pipelines.sources.columns import fingerprint
from pipelines.sources.hashing import row_hashes

WIDE = replace(MAPPING, metadata=("kind", "views", "score", "is_new", "day"), vector="v")
FORM = {
    **row("a"), "score": 0.5, "is_new": True, "day": date(2026, 11, 24), "v": [1.0, 2.0],
}  # fmt: skip
TYPES = {
    "id": pa.string(), "title": pa.string(), "body": pa.string(), "kind": pa.string(),
    "views": pa.int32(), "tenant": pa.string(), "groups": pa.list_(pa.string()),
    "updated_at": pa.timestamp("us", tz="UTC"), "score": pa.float32(), "is_new": pa.bool_(),
    "day": pa.date32(), "v": pa.list_(pa.float32()),
}  # fmt: skip


def batch(forms, types=TYPES):
    schema = pa.schema(list(types.items()))
    return pa.Table.from_pylist(forms, schema=schema).combine_chunks().to_batches()[0]


def hash_of(form, types=TYPES, mapping=WIDE):
    (found,) = row_hashes(batch([form], types), mapping)
    return found


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("body", pa.large_string()),
        ("body", pa.string_view()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("views", pa.int8()),
        ("views", pa.int64()),
        ("score", pa.float64()),
        ("groups", pa.large_list(pa.large_string())),
        ("v", pa.list_(pa.float64())),
        ("v", pa.list_(pa.float32(), 2)),
        ("updated_at", pa.timestamp("ms", tz="UTC")),
        ("updated_at", pa.timestamp("ns", tz="Europe/Berlin")),
    ],
)
def test_the_physical_type_does_not_matter(column, kind):
    for form in (FORM, {**FORM, column: None}):
        if column == "v" and form["v"] is None and pa.types.is_fixed_size_list(kind):
            continue
        assert hash_of(form, {**TYPES, column: kind}) == hash_of(form)


def test_neither_order_of_columns_nor_order_or_batch_of_rows_matters():
    forms = [{**FORM, "id": str(n), "views": n, "groups": ["g"] * n} for n in range(5)]
    expected = [hash_of(form) for form in forms]
    whole = batch(forms)
    assert row_hashes(whole, WIDE) == expected
    assert row_hashes(whole.slice(2, 2), WIDE) == expected[2:4]
    backwards = whole.select(list(reversed(whole.schema.names)))
    assert row_hashes(backwards.take(pa.array([4, 0])), WIDE) == [expected[4], expected[0]]
    assert row_hashes(whole.append_column("more", pa.array(range(5))), WIDE) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"id": "b"}, {"title": "t"}, {"body": "b"}, {"kind": "k"}, {"views": 2}, {"tenant": "t"},
        {"groups": ["staff", "board"]}, {"groups": []}, {"groups": [None]}, {"groups": None},
        {"updated_at": WRITTEN.replace(microsecond=1)}, {"score": 0.25}, {"is_new": False},
        {"day": date(2026, 11, 25)}, {"v": [1.0, 2.5]}, {"v": [1.0]}, {"v": None},
        {"kind": ""}, {"kind": None}, {"views": None}, {"title": None}, {"title": ""},
    ],
)  # fmt: skip
def test_every_mapped_column_counts(change):
    assert hash_of({**FORM, **change}) != hash_of(FORM)


def test_columns_that_change_roles_and_another_way_of_reading_text_count():
    assert hash_of(FORM, mapping=replace(WIDE, title="body", text="title")) != hash_of(FORM)
    assert hash_of(FORM, mapping=replace(WIDE, text_format="html")) != hash_of(FORM)


@given(st.lists(st.tuples(*[st.text(max_size=3) | st.none()] * 3), min_size=2, max_size=8))
def test_two_rows_have_one_hash_exactly_when_they_are_equal(values):
    forms = [{**FORM, "title": a, "body": b, "groups": [c, b]} for a, b, c in values]
    hashes = row_hashes(batch(forms), WIDE)
    assert len(set(hashes)) == len(set(values))


def test_a_column_of_a_type_that_no_filter_takes_is_named():
    with pytest.raises(SchemaMismatch, match="column 'views' has type struct"):
        hash_of({**FORM, "views": {"x": 1}}, {**TYPES, "views": pa.struct([("x", pa.int32())])})


def test_the_fingerprint_is_of_mapped_columns_alone():
    schema = pa.schema(list(TYPES.items()))
    assert fingerprint(schema.append(pa.field("more", pa.int8())), WIDE) == fingerprint(
        schema.set(4, pa.field("views", pa.int64())), WIDE
    )
    assert fingerprint(schema, MAPPING) != fingerprint(schema, WIDE)
