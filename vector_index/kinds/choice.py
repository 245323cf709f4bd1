"""`auto`: which kind a segment is built as, and why."""

from dataclasses import dataclass

from vector_index.kinds.ivf import MIN_ROWS
from vector_index.kinds.protocol import KindName

# What one scan of `flat` may read: 2.5 ms at the 13 GB/s of one thread.
_FLAT_BYTES = 32 << 20
_FLOAT_BYTES = 4
_ROW_ID_BYTES = 8
# RaBitQ keeps two floats of correction a row beside the bits.
_RABITQ_FACTOR_BYTES = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """The kind chosen, and one sentence with the numbers that decided."""

    kind: KindName
    reason: str


def choose_kind(rows: int, dim: int, *, memory_bytes: int | None) -> Choice:
    """The kind for this many vectors of this dimension within a memory budget (None: no limit).

    Small segments are `flat`, larger ones `ivf_sq8`, or `ivf_rabitq` where only that fits.
    `ivf_flat` is never chosen: at the same recall it was 1.4 times slower and 1.6 times larger on
    disk at 100,000 x 384 (benchmarks/kinds.py). Nor is HNSW: it builds four times slower than
    IVF, cannot merge, loses results under filters, and was not faster there. Original vectors of
    a compressed kind stay on disk, are mapped, and are not counted.
    """
    size = f"{rows:,} x {dim}"
    flat_bytes = rows * dim * _FLOAT_BYTES
    fits_flat = memory_bytes is None or flat_bytes <= memory_bytes
    if flat_bytes <= _FLAT_BYTES and fits_flat:
        return Choice(
            "flat",
            f"{size} float32 are {_mb(flat_bytes)}, at most the {_mb(_FLAT_BYTES)} that an exact "
            "scan reads in a few milliseconds.",
        )
    if rows < MIN_ROWS:
        return Choice("flat", f"{size}: other kinds need {MIN_ROWS} rows to train on.")
    needs: dict[KindName, int] = {
        "ivf_sq8": rows * (dim + _ROW_ID_BYTES),
        "ivf_rabitq": rows * (dim // 8 + _RABITQ_FACTOR_BYTES + _ROW_ID_BYTES),
    }
    if memory_bytes is None:
        return Choice(
            "ivf_sq8",
            f"{size} float32 are {_mb(flat_bytes)}, too many to scan, and no memory budget is set.",
        )
    for kind, needed in needs.items():
        if needed <= memory_bytes:
            return Choice(
                kind,
                f"{size} as {kind} need {_mb(needed)} of the {_mb(memory_bytes)} memory budget; "
                f"float32 are {_mb(flat_bytes)}.",
            )
    smallest = needs["ivf_rabitq"]
    return Choice(
        "ivf_rabitq",
        f"{size} need {_mb(smallest)} even as ivf_rabitq, the smallest kind, more than the "
        f"{_mb(memory_bytes)} memory budget.",
    )


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
