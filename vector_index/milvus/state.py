"""The one record that says which rows are live."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from vector_index.errors import IndexCorrupt
from vector_index.manifest import IndexSettings
from vector_index.milvus.names import collections_of
from vector_index.milvus.store import MilvusPlace, Store
from vector_index.passages import IndexVersion, SourceVersion

STATE_ID = "state"


@dataclass(frozen=True, slots=True)
class State:
    """What is live, and what it was made from.

    step: counts every change, published or not; rows with since <= step < until are live.
    is_flushed: whether the generation includes every change.
    """

    format_version: Literal[1]
    settings: IndexSettings
    step: int
    number: int
    generation: str
    created_at: datetime
    source: SourceVersion
    is_flushed: bool

    def version(self) -> IndexVersion:
        """What an answer says it was built from."""
        return IndexVersion(
            index=self.settings.name,
            generation=self.generation,
            number=self.number,
            created_at=self.created_at,
            source=self.source,
            sequence=self.step,
        )


_ADAPTER = TypeAdapter(State)


def generation_after(
    before: State | None, settings: IndexSettings, source: SourceVersion, step: int
) -> State:
    """The state of a new generation."""
    number = 1 if before is None else before.number + 1
    return State(
        format_version=1,
        settings=settings,
        step=step,
        number=number,
        generation=f"{number}-{source.table_id}-v{source.version}",
        created_at=datetime.now(UTC),
        source=source,
        is_flushed=True,
    )


def changed(before: State, source: SourceVersion | None) -> State:
    """The state after one more change that is not published yet."""
    return replace(before, step=before.step + 1, source=source or before.source, is_flushed=False)


def to_json(state: State) -> str:
    """The record's form in Milvus."""
    return _ADAPTER.dump_json(state).decode()


def from_json(text: str) -> State:
    """The record. Raises IndexCorrupt for one of another version."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as exc:
        raise IndexCorrupt(
            f"the state of this index in Milvus is not of this version's format ({exc}); drop "
            "the index's collections and sync again"
        ) from exc


def settings_in_milvus(place: MilvusPlace, name: str) -> IndexSettings | None:
    """What the index of that name is made of, None before its first publish. Raises StoreFailed."""
    store, state = Store(place), collections_of(name).state
    try:
        if not store.has(state) or not store.is_ready(state):
            return None
        store.load(state)
        text = store.get(state, STATE_ID, "state")
    finally:
        store.close()
    return None if text is None else from_json(text).settings
