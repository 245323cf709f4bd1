"""Changes in memory: joined and cut down."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vector_index.passages import IndexDelta


def joined(deltas: list[IndexDelta]) -> IndexDelta:
    """One change that is all of these, in their order. There is at least one."""
    return IndexDelta(
        pa.concat_tables([delta.documents for delta in deltas]),
        pa.concat_tables([delta.passages for delta in deltas]),
        np.concatenate([delta.vectors for delta in deltas]),
        frozenset().union(*(delta.removed for delta in deltas)),
    )


def without(delta: IndexDelta, document_ids: Collection[str]) -> IndexDelta:
    """The change but for what it writes of these documents."""
    gone = pa.array(list(document_ids), pa.string())
    is_gone = pc.is_in(delta.documents["document_id"], value_set=gone)
    if not pc.any(is_gone).as_py():
        return delta
    kept = pc.invert(pc.is_in(delta.passages["document_id"], value_set=gone))
    return IndexDelta(
        delta.documents.filter(pc.invert(is_gone)),
        delta.passages.filter(kept),
        delta.vectors[kept.to_numpy()],
        delta.removed,
    )
