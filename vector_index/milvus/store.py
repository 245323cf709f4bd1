"""The few calls to Milvus that an index needs, with its errors translated."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vector_index.errors import StoreFailed, StoreMissing
from vector_index.milvus.rows import Row

# A batch of the longest rows Milvus takes stays under the 64 MB of one message.
_BATCH_ROWS = 200
_PAGE_ROWS = 500
_WRITE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class MilvusPlace:
    """Where the collections are.

    uri: `http://host:19530`, or a path that ends in `.db` for milvus-lite in this process.
    timeout_s: how long one read may take; writes have two minutes.
    """

    uri: str
    token: str = field(default="", repr=False)
    database: str = ""
    timeout_s: float = 10.0


class Store:
    """A connection to Milvus. Everything is read at the level `Strong`: what was written is seen.

    Every method raises StoreFailed where the server refuses or does not answer.
    """

    def __init__(self, place: MilvusPlace) -> None:
        try:
            from pymilvus import MilvusClient
        except ImportError as exc:
            raise StoreMissing("pymilvus", "milvus") from exc
        self._timeout_s = place.timeout_s
        with _translated(f"connecting to {place.uri}"):
            self._client = MilvusClient(
                uri=place.uri, token=place.token, db_name=place.database, timeout=place.timeout_s
            )

    def has(self, collection: str) -> bool:
        with _translated(f"looking for collection {collection}"):
            return bool(self._client.has_collection(collection, timeout=self._timeout_s))

    def is_ready(self, collection: str) -> bool:
        """Whether the collection was created to the end: with its indexes."""
        with _translated(f"looking for the indexes of collection {collection}"):
            return bool(self._client.list_indexes(collection))

    def create(self, collection: str, schema: Any, indexes: Any) -> None:
        with _translated(f"creating collection {collection}"):
            self._client.create_collection(collection, schema=schema, consistency_level="Strong")
            # An index over no rows is there at once; waiting polls every half second.
            self._client.create_index(collection, indexes, sync=False, timeout=_WRITE_TIMEOUT_S)
            self._client.load_collection(collection, timeout=_WRITE_TIMEOUT_S)

    def load(self, collection: str) -> None:
        """Makes the collection searchable; a restart of milvus-lite releases it."""
        with _translated(f"loading collection {collection}"):
            self._client.load_collection(collection, timeout=_WRITE_TIMEOUT_S)

    def drop(self, collection: str) -> None:
        with _translated(f"dropping collection {collection}"):
            self._client.drop_collection(collection, timeout=_WRITE_TIMEOUT_S)

    def put(self, collection: str, rows: Iterator[Row], *, is_partial: bool = False) -> None:
        """Writes rows over those with the same id. is_partial: other fields keep their values."""
        for batch in batched(rows, _BATCH_ROWS):
            with _translated(f"writing to collection {collection}"):
                self._client.upsert(
                    collection, batch, partial_update=is_partial, timeout=_WRITE_TIMEOUT_S
                )

    def delete(self, collection: str, expression: str) -> None:
        with _translated(f"deleting from collection {collection}"):
            self._client.delete(collection, filter=expression, timeout=_WRITE_TIMEOUT_S)

    def get(self, collection: str, id: str, field: str) -> str | None:
        """One string field of one row, None where there is no such row."""
        with _translated(f"reading collection {collection}"):
            rows = self._client.get(
                collection, ids=[id], output_fields=[field], timeout=self._timeout_s
            )
        return cast(str, rows[0][field]) if rows else None

    def count(self, collection: str, expression: str) -> int:
        with _translated(f"counting in collection {collection}"):
            rows = self._client.query(
                collection, filter=expression, output_fields=["count(*)"], timeout=self._timeout_s
            )
        return int(rows[0]["count(*)"])

    def scan(self, collection: str, expression: str, fields: Sequence[str]) -> Iterator[Row]:
        """Every row the expression accepts, by id, read in pages."""
        with _translated(f"scanning collection {collection}"):
            pages = self._client.query_iterator(
                collection,
                batch_size=_PAGE_ROWS,
                filter=expression,
                output_fields=list(fields),
                timeout=self._timeout_s,
            )
            try:
                while page := pages.next():
                    yield from page
            finally:
                pages.close()

    def nearest(
        self,
        collection: str,
        field: str,
        query: NDArray[np.float32] | str,
        *,
        limit: int,
        expression: str,
        params: dict[str, object],
        fields: Sequence[str],
    ) -> list[tuple[Row, float]]:
        """The rows that Milvus ranks first, best first, with what it calls their distance."""
        with _translated(f"searching collection {collection}"):
            found = self._client.search(
                collection,
                data=[query],
                anns_field=field,
                limit=limit,
                filter=expression,
                output_fields=list(fields),
                search_params={"params": params},
                timeout=self._timeout_s,
            )
        return [(hit["entity"], float(hit["distance"])) for hit in found[0]]

    def close(self) -> None:
        self._client.close()


def batched(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """The rows in lists of at most `size`."""
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _translated(what: str) -> Iterator[None]:
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError) as exc:
        raise StoreFailed(f"{what} in Milvus failed: {exc}") from exc
