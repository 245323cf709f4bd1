"""How a change becomes visible all at once, in a store that has no transactions.

A row lives from step `since` until before step `until`. With N the live step, a change

1. repairs what a crash left behind (rows from after N go, ends from after N are taken back),
   and deletes rows that were dead before the state of N - 1;
2. writes the new rows with since = N + 1: nobody sees them;
3. writes until = N + 1 into the rows they replace: everybody still sees them;
4. writes the state record with step N + 1. That one row is the switch.

A crash before 4 leaves the old state, exactly; after it the new one. Rows that died with the
last change are kept until the next one, for readers that began before the switch.
"""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from vector_index.errors import IndexBusy
from vector_index.manifest import IndexSettings
from vector_index.milvus.expressions import alive_at, any_of
from vector_index.milvus.names import FOREVER, collections_of
from vector_index.milvus.rows import Row, document_row, passage_row
from vector_index.milvus.schema import documents_schema, passages_schema, state_schema
from vector_index.milvus.state import STATE_ID, State, from_json, to_json
from vector_index.milvus.store import Store
from vector_index.passages import IndexDelta, passage_from_row

# milvus-lite reads every row for each expression: better a few long ones than many.
_IDS_AT_ONCE = 1000
# Rows that are Python objects at a time.
_ROWS_AT_ONCE = 1024


class Changes:
    """The writing half of an index. One at a time: see MilvusIndex."""

    def __init__(self, store: Store, settings: IndexSettings) -> None:
        self._store = store
        self._settings = settings
        self._names = collections_of(settings.name)
        self._both = (self._names.passages, self._names.documents)
        self._is_open = False

    def read_state(self) -> State | None:
        """What is live; None before the first publish."""
        if not self._is_open and not self._open():
            return None
        text = self._store.get(self._names.state, STATE_ID, "state")
        return None if text is None else from_json(text)

    def create(self) -> None:
        """Empty collections, in place of what a first publish that crashed left behind."""
        for name, (schema, indexes) in {
            self._names.passages: passages_schema(self._settings),
            self._names.documents: documents_schema(),
            self._names.state: state_schema(),
        }.items():
            if self._store.has(name):
                self._store.drop(name)
            self._store.create(name, schema, indexes)

    def repair(self, live: State) -> None:
        """Takes back what was begun and not finished, and drops what no reader can want."""
        for name in self._both:
            self._store.delete(name, f"since > {live.step}")
            begun = f"until > {live.step} and until < {FOREVER}"
            self._end(name, begun, FOREVER)
            self._store.delete(name, f"until < {live.step}")

    def living(self, document_ids: Collection[str], live: State) -> set[str]:
        """Those of the documents that are indexed."""
        expressions = self._expressions(document_ids, live.step)
        return {
            str(row["document_id"])
            for expression in expressions
            for row in self._store.scan(self._names.documents, expression, ["document_id"])
        }

    def write(self, delta: IndexDelta, step: int) -> None:
        """Writes the new rows and ends the old ones; nothing of it is visible yet."""
        self.put(delta, step)
        self.end([*delta.removed, *delta.documents["document_id"].to_pylist()], step)

    def put(self, delta: IndexDelta, step: int) -> None:
        """Writes the new rows, a batch of them in memory at a time."""
        documents = (
            document_row(row["document_id"], row["document_hash"], step)
            for row in _rows(delta.documents)
        )
        passages = (
            passage_row(passage_from_row(row), vector, step, self._settings)
            for row, vector in zip(_rows(delta.passages), delta.vectors, strict=True)
        )
        self._store.put(self._names.documents, documents)
        self._store.put(self._names.passages, passages)

    def end(self, document_ids: Collection[str], step: int) -> None:
        """Ends what the documents had before the step."""
        if step > 1:
            for expression in self._expressions(document_ids, step - 1):
                for name in self._both:
                    self._end(name, f"{expression} and until == {FOREVER}", step)

    def begun(self, step: int) -> tuple[int, int]:
        """How many documents and passages live from that step on."""
        documents, passages = (
            self._store.count(name, f"since == {step}")
            for name in (self._names.documents, self._names.passages)
        )
        return documents, passages

    def switch(self, live: State | None, to: State) -> None:
        """Makes the new state the live one. Raises IndexBusy where another writer was quicker."""
        if self.read_state() != live:
            raise IndexBusy(
                f"another process changed index {to.settings.name!r} in Milvus during this "
                "change; run one sync at a time, then sync again"
            )
        row: Row = {"id": STATE_ID, "state": to_json(to), "unused": [0.0, 0.0]}
        self._store.put(self._names.state, iter([row]))

    def _open(self) -> bool:
        """Loads the collections; False where they are not all there. The state's comes last."""
        state = self._names.state
        if not self._store.has(state) or not self._store.is_ready(state):
            return False
        for name in (*self._both, state):
            self._store.load(name)
        self._is_open = True
        return True

    def _end(self, name: str, expression: str, until: int) -> None:
        # Read to the end before writing: a scan must not meet its own changes.
        ids = [row["id"] for row in self._store.scan(name, expression, ["id"])]
        ended: Iterator[Row] = ({"id": id, "until": until} for id in ids)
        self._store.put(name, ended, is_partial=True)

    def _expressions(self, document_ids: Collection[str], step: int) -> Iterator[str]:
        """Rows of these documents alive at that step, some documents at a time."""
        rest = iter(document_ids)
        while some := list(islice(rest, _IDS_AT_ONCE)):
            yield f"{alive_at(step)} and {any_of('document_id', some)}"


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from batch.to_pylist()
