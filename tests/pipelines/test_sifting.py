"""Arrow batches with rows that cannot be indexed among those that can."""

import pyarrow as pa
import pytest

from pipelines.errors import QualityFailed
from pipelines.quality import parse_checks
from pipelines.reasons import Reason
from pipelines.sifting import sift


def batch(bodies, kind=pa.string()):
    """Rows 0, 1, … whose bodies are these bytes, UTF-8 or not."""
    raw = pa.array(bodies, pa.large_binary())
    body = pa.Array.from_buffers(pa.large_string(), len(raw), raw.buffers())
    return pa.record_batch({"id": [str(n) for n in range(len(bodies))], "body": body.cast(kind)})


def sifted(rows, **options):
    found = sift(rows, key="id", text="body", **options)
    return found.good["id"].to_pylist(), [(one.key, one.reason) for one in found.refused]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_a_row_that_is_not_utf8_is_refused_and_the_others_are_kept(kind):
    rows = batch([b"fine", b"bad \xff", None, "é".encode()], kind)
    assert sifted(rows) == (["0", "2", "3"], [("1", Reason.BAD_ENCODING)])


def test_a_row_that_is_not_utf8_is_shown_with_escapes():
    (refused,) = sift(batch([b"bad \xff"]), key="id", text="body").refused
    assert refused.row == {"id": "0", "body": "bad \\xff"}


def test_a_batch_without_bad_rows_is_handed_on_as_it_is():
    rows = batch([b"fine", None])
    found = sift(rows, key="id", text="body", max_bytes=4)
    assert found.good is rows
    assert found.refused == ()


def test_a_text_over_the_bound_is_refused_with_its_size():
    rows = batch([b"1234", b"12345", None])
    assert sifted(rows, max_bytes=4) == (["0", "2"], [("1", Reason.TOO_LONG)])
    (refused,) = sift(rows, key="id", text="body", max_bytes=4).refused
    assert "5 bytes of at most 4" in refused.detail
    assert refused.row == {"id": "1", "body": "12345"}


def test_rules_are_put_to_the_readable_rows_alone():
    rows = batch([b"long enough", b"\xff", b"short", b"also long enough"])
    rule = {"column": "body", "check": "length", "min": 6, "on_fail": "quarantine"}
    warn = {**rule, "min": 12, "on_fail": "warn"}
    checks = parse_checks([rule, warn], rows.schema)
    expected = [("1", Reason.BAD_ENCODING), ("2", Reason.QUALITY)]
    assert sifted(rows, checks=checks) == (["0", "3"], expected)
    refused = sift(rows, key="id", text="body", checks=checks).refused
    assert refused[1].row == {"id": "2", "body": "short"}
    warnings = sift(rows, key="id", text="body", checks=checks).warnings
    assert warnings[0].startswith("2 of 3 rows")
    failing = parse_checks([{**rule, "on_fail": "fail"}], rows.schema)
    with pytest.raises(QualityFailed, match="such as '2'"):
        sift(rows, key="id", text="body", checks=failing)


GROUPS = pa.list_(pa.string())
MOMENT = pa.timestamp("us", tz="UTC")
YEAR_9999 = 253_402_300_799_999_999
YEAR_1 = -62_135_596_800_000_000


@pytest.mark.parametrize(
    ("values", "kind", "bad"),
    [
        ([["staff"], ["staff", None], [], None], GROUPS, ["1"]),
        ([["a"], ["a", None]], pa.large_list(pa.large_string()), ["1"]),
        ([YEAR_1 - 1, YEAR_1, YEAR_9999, YEAR_9999 + 1, None], MOMENT, ["0", "3"]),
        ([2**60, 0], pa.timestamp("s"), ["0"]),
        ([-(2**63), 2**63 - 1], pa.timestamp("ns"), []),
        ([-719_163, -719_162, 2_932_896, 2_932_897, None], pa.date32(), ["0", "3"]),
    ],
)
def test_a_value_that_no_search_could_read_back_is_refused(values, kind, bad):
    integers = isinstance(values[0], int)
    raw = {"date32[day]": pa.int32()}.get(str(kind), pa.int64())
    odd = pa.array(values, raw).cast(kind) if integers else pa.array(values, kind)
    rows = batch([b"fine"] * len(values)).append_column("odd", odd)
    good, refused = sifted(rows)
    assert refused == [(key, Reason.BAD_VALUE) for key in bad]
    assert good == [str(n) for n in range(len(values)) if str(n) not in bad]


def test_text_in_a_list_is_utf8_too_and_shown_with_escapes():
    raw = pa.array([b"staff", b"\xff"], pa.large_binary())
    text = pa.Array.from_buffers(pa.large_string(), 2, raw.buffers()).cast(pa.string())
    groups = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), text)
    rows = batch([b"fine", b"fine"]).append_column("groups", groups)
    assert sifted(rows) == (["0"], [("1", Reason.BAD_ENCODING)])
    (refused,) = sift(rows, key="id", text="body").refused
    assert refused.row == {"id": "1", "body": "fine", "groups": ["\\xff"]}
