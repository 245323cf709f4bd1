"""What the full text of the next generation forgets and takes in."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from vector_index.fulltext import dead_share
from vector_index.generation import FULLTEXT
from vector_index.layer import Layer
from vector_index.passages import passage_schema
from vector_index.publish import TextChange
from vector_index.snapshot import Snapshot

# Past it, full text is written anew: what is deleted still counts in its scores, and is stored.
MAX_DEAD_SHARE = 0.3


def text_change(snapshot: Snapshot, fresh: Sequence[pa.Table], *, is_all_new: bool) -> TextChange:
    """From the text of the snapshot's generation to that of what lives at its sequence number.

    fresh: passages that are in none of the layers. is_all_new: whether no segment stays as it
    is; deleted text is then to leave the disk, so nothing of the old full text is kept either.
    """
    before = snapshot.generation
    schema = passage_schema(snapshot.settings.metadata_columns)
    passages = pa.concat_tables([schema.empty_table(), *fresh])
    if before is not None:
        dead = dead_share(before.folder / FULLTEXT)
        if not (dead > MAX_DEAD_SHARE or (is_all_new and dead > 0) or not snapshot.layers):
            gone = [key for layer in snapshot.layers for key in _newly_dead(layer, snapshot)]
            return TextChange(before, gone, passages)
    living = [_living(layer, snapshot.sequence) for layer in snapshot.layers]
    return TextChange(None, (), pa.concat_tables([*living, passages]))


def _newly_dead(layer: Layer, snapshot: Snapshot) -> list[str]:
    """Ids of the documents that died since the generation was written."""
    assert snapshot.generation is not None
    before = layer.deaths.positions(snapshot.generation.manifest.sequence)
    dead = np.setdiff1d(layer.deaths.positions(snapshot.sequence), before, assume_unique=True)
    ids: list[str] = layer.ids.take(pa.array(dead)).to_pylist()
    return ids


def _living(layer: Layer, sequence: int) -> pa.Table:
    return layer.segment.rows.table.take(pa.array(layer.rows_of(layer.alive(sequence))))
