"""A batch of rows parted into those that can be indexed and those that go to quarantine."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.quality import QualityCheck, judge
from pipelines.reasons import Reason
from pipelines.values import unreadable


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is left out, and why. row: its columns; what is not UTF-8 shows as escapes."""

    key: str
    reason: Reason
    detail: str
    row: Mapping[str, object] | str | None = None


@dataclass(frozen=True, slots=True)
class Sifted:
    """`good` keeps the order of the rows; warnings are sentences about it."""

    good: pa.RecordBatch
    refused: tuple[Refused, ...]
    warnings: tuple[str, ...] = ()


def sift(
    batch: pa.RecordBatch,
    *,
    key: str,
    text: str,
    checks: tuple[QualityCheck, ...] = (),
    max_bytes: int | None = None,
) -> Sifted:
    """The rows that can be read and that keep the rules.

    key, text: columns. Rows with a value of `values.unreadable` are refused. max_bytes: of one
    row's text, in UTF-8. Keys are UTF-8, as a source has seen to. Raises QualityFailed for a
    broken rule whose `on_fail` is fail, and BadCheck.
    """
    keys = batch.column(key).to_pylist()
    refused: dict[int, Refused] = {}
    for row, reason, detail in unreadable(batch):
        if row not in refused:
            refused[row] = Refused(keys[row], reason, detail, _shown(batch, row))
    if max_bytes is not None:
        for row, size in _longer(batch.column(text), max_bytes):
            detail = f"column {text!r} has {size:,} bytes of at most {max_bytes:,}; split the row"
            shown = _shown(batch, row)
            refused.setdefault(row, Refused(keys[row], Reason.TOO_LONG, detail, shown))
    good = _without(batch, refused)
    verdict = judge(good, checks, key=key)
    verdict.raise_failures()
    aside = verdict.quarantined
    broken = []
    if aside:
        places = {one: row for row, one in enumerate(good.column(key).to_pylist())}
        broken = [
            Refused(one, Reason.QUALITY, detail, _shown(good, places[one]))
            for one, detail in aside.items()
        ]
        good = _kept(good, [one not in aside for one in places])
    return Sifted(good, (*refused.values(), *broken), verdict.warnings)


def _longer(column: pa.Array, max_bytes: int) -> list[tuple[int, int]]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    sizes = pc.fill_null(pc.binary_length(column.cast(pa.large_string())), 0).to_numpy()
    return [(row, int(sizes[row])) for row in np.flatnonzero(sizes > max_bytes).tolist()]


def _shown(batch: pa.RecordBatch, row: int) -> dict[str, object]:
    return {
        name: _value(column[row])
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }


def _value(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if isinstance(scalar, pa.ListScalar):
            return [_value(one) for one in scalar.values]
        return scalar.as_buffer().to_pybytes().decode("utf-8", "backslashreplace")
    except (OverflowError, ValueError):  # no date of Python's
        return str(scalar.cast(pa.int32() if pa.types.is_date(scalar.type) else pa.int64()))


def _without(batch: pa.RecordBatch, refused: dict[int, Refused]) -> pa.RecordBatch:
    if not refused:
        return batch
    return _kept(batch, [row not in refused for row in range(batch.num_rows)])


def _kept(batch: pa.RecordBatch, is_kept: list[bool]) -> pa.RecordBatch:
    # Arrow 26 filters no string_view, which deltalake's merge leaves in files.
    arrays = [
        column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column
        for column in batch.columns
    ]
    whole = pa.record_batch(arrays, names=batch.schema.names)
    return whole.filter(pa.array(is_kept, pa.bool_()))
