"""Batches and what is made of them as rows of one column each, for a store that moves tables.

One row is one batch, so whoever cuts and joins tables on the way never tears a batch apart.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import errors
from pipelines.reasons import Reason
from pipelines.sifting import Refused
from pipelines.step import Made

WORK_SCHEMA = pa.schema({"rows": pa.large_binary(), "known": pa.large_binary()})
# What comes before the first batch: who does not get it has taken over from somebody else.
BEGIN = "begin"
_KNOWN_SCHEMA = pa.schema({"text_hash": pa.string(), "vector": pa.large_binary()})


def work_row(batch: pa.RecordBatch, known: Mapping[str, NDArray[np.float32]]) -> pa.Table:
    """One row of WORK_SCHEMA: rows of the table, and the vectors that need not be made."""
    vectors = [vector.astype("<f4").tobytes() for vector in known.values()]
    stored = pa.record_batch([list(known), vectors], schema=_KNOWN_SCHEMA)
    return pa.table([[_packed(batch)], [_packed(stored)]], schema=WORK_SCHEMA)


def work_of(table: pa.Table) -> tuple[pa.RecordBatch, dict[str, NDArray[np.float32]]]:
    """The batch and the known vectors of a table of one row."""
    rows, known = (_unpacked(table[name][0]) for name in ("rows", "known"))
    pairs = zip(known["text_hash"].to_pylist(), known["vector"].to_pylist(), strict=True)
    batch = rows.combine_chunks().to_batches()
    vectors = {one: np.frombuffer(vector, "<f4") for one, vector in pairs}
    return batch[0] if batch else _empty(rows.schema), vectors


def made_row(made: Made) -> pa.Table:
    """One row that is all of it."""
    refused = [asdict(row) for row in made.refused]
    return pa.table(
        {
            "keys": [json.dumps(made.keys)],
            "passages": pa.array([_packed(made.passages)], pa.large_binary()),
            "vectors": pa.array([made.vectors.astype("<f4").tobytes()], pa.large_binary()),
            "refused": [json.dumps(refused)],
            "embedded": [made.embedded],
        }
    )


def failed_row(error: Exception) -> pa.Table:
    """One row that says why there is nothing; the errors themselves do not travel well."""
    return pa.table({"error": [type(error).__name__], "message": [str(error)]})


def made_of(row: Mapping[str, pa.Scalar], dim: int) -> Made:
    """What the row says, its vectors read-only. Raises what the step raised, or EngineFailed."""
    if "error" in row:
        kind, message = row["error"].as_py(), row["message"].as_py()
        known = getattr(errors, kind, None)
        if isinstance(known, type) and issubclass(known, errors.PipelineError):
            raise known(message)
        raise errors.EngineFailed(f"a worker failed: {kind}: {message}; nothing was published")
    vectors = np.frombuffer(row["vectors"].as_buffer(), np.float32).reshape(-1, dim)
    refused = json.loads(row["refused"].as_py())
    return Made(
        tuple(json.loads(row["keys"].as_py())),
        _unpacked(row["passages"]),
        vectors,
        tuple(Refused(**{**one, "reason": Reason(one["reason"])}) for one in refused),
        row["embedded"].as_py(),
    )


def _packed(rows: pa.RecordBatch | pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(packed: pa.Scalar) -> pa.Table:
    return pa.ipc.open_stream(packed.as_buffer()).read_all()


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)
