"""Rivals of benchmarks/rivals.py that are databases inside this process.

Every one returns ids and scores only, no text, by the fastest of its public ways that we found:

- lancedb: the asynchronous API (1.7 ms a query where the synchronous one takes 2.3), scalar-
  quantised HNSW in one partition, and IVF_RQ and IVF_PQ refined with the full vectors.
- milvus-lite: its engine in this process, without the gRPC client (5.0 ms a query, 7.4 through
  pymilvus). It is written in Python and visits every row's key on every search.
- chroma: `PersistentClient`; a loaded graph keeps its ef, so a change of it reopens the client.
- qdrant: the local mode of qdrant-client is a scan in NumPy, no HNSW; its server is not compared.
"""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from contenders import AS_SHIPPED, WIDTHS, Effort, Families, one_knob
from corpora import Floats, K, Rows
from rival_libraries import EF_CONSTRUCTION, M

_PASSAGES = "passages"
_INSERT = 5_000


class Lancedb:
    """lancedb with one of its vector indexes, searched through its asynchronous API."""

    note = "its runtime's threads share the core"

    def __init__(self, index: str, families: Families) -> None:
        self._kind, self.families = index, families
        self.folder = f"lancedb_{index}"

    def build(self, vectors: Floats, folder: Path) -> None:
        import lancedb
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(vectors).ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        rows = pa.table({"id": np.arange(len(vectors)), "vector": column})
        table = lancedb.connect(str(folder)).create_table(_PASSAGES, rows)
        table.create_index("vector", config=self._config())

    def open(self, folder: Path, vectors: Floats) -> None:
        import lancedb

        async def opened() -> Any:
            database = await lancedb.connect_async(str(folder))
            return await database.open_table(_PASSAGES)

        self._loop = asyncio.new_event_loop()
        self._table = self._loop.run_until_complete(opened())

    def set_effort(self, effort: Effort) -> None:
        self._effort = effort

    def ask(self, queries: Floats) -> Any:
        return self._loop.run_until_complete(self._search(queries))

    def rows(self, answer: Any) -> Rows:
        ids = answer["id"].to_numpy()
        if "query_index" not in answer.column_names:
            return np.asarray(ids, np.int64)[np.newaxis]
        order = np.argsort(answer["query_index"].to_numpy(), kind="stable")
        return np.asarray(ids[order], np.int64).reshape(-1, K)

    async def _search(self, queries: Floats) -> Any:
        vectors = queries[0] if len(queries) == 1 else list(queries)
        search = self._table.query().nearest_to(vectors).distance_type("dot").limit(K)
        if self._kind == "hnsw_sq":
            search = search.nprobes(1).ef(self._effort[0])
        else:
            search = search.nprobes(self._effort[0])
        if len(self._effort) > 1:
            search = search.refine_factor(self._effort[1])
        return await search.select(["id", "_distance"]).fast_search().to_arrow()

    def _config(self) -> Any:
        from lancedb.index import HnswSq, IvfPq, IvfRq

        if self._kind == "hnsw_sq":
            return HnswSq(
                distance_type="dot", num_partitions=1, m=M, ef_construction=EF_CONSTRUCTION
            )
        return (IvfRq if self._kind == "ivf_rq" else IvfPq)(distance_type="dot")


class MilvusLite:
    """milvus-lite's engine in this process."""

    note = "Python over FAISS, visits every row's key; segments of at most 100,000 rows"
    families: Families = one_knob(WIDTHS)
    folder = "milvus_lite"

    def build(self, vectors: Floats, folder: Path) -> None:
        from pymilvus import DataType, MilvusClient

        client = MilvusClient(str(folder / "milvus.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        client.create_collection(_PASSAGES, schema=schema)
        for start in range(0, len(vectors), _INSERT):
            block = vectors[start : start + _INSERT]
            client.insert(_PASSAGES, [{"id": start + i, "vector": v} for i, v in enumerate(block)])
        client.flush(_PASSAGES)
        wanted = client.prepare_index_params()
        params = {"M": M, "efConstruction": EF_CONSTRUCTION}
        wanted.add_index("vector", index_type="HNSW", metric_type="IP", params=params)
        client.create_index(_PASSAGES, wanted)
        client.load_collection(_PASSAGES)
        client.close()

    def open(self, folder: Path, vectors: Floats) -> None:
        from milvus_lite import MilvusLite as Engine

        self._engine = Engine(str(folder / "milvus.db"))
        self._collection = self._engine.get_collection(_PASSAGES)
        self._collection.load()

    def set_effort(self, effort: Effort) -> None:
        self._parameters = {"ef": effort[0]}

    def ask(self, queries: Floats) -> Any:
        return self._collection.search(
            list(queries),
            top_k=K,
            metric_type="IP",
            output_fields=["id"],
            search_params=self._parameters,
        )

    def rows(self, answer: Any) -> Rows:
        return np.array([[hit["id"] for hit in hits] for hits in answer])


class Chroma:
    """chroma's PersistentClient."""

    note = "ids are strings"
    families: Families = one_knob(WIDTHS)
    folder = "chroma"

    def build(self, vectors: Floats, folder: Path) -> None:
        client = _chroma_client(folder)
        graph = {"space": "ip", "ef_construction": EF_CONSTRUCTION, "max_neighbors": M}
        collection = client.create_collection(
            _PASSAGES, configuration={"hnsw": graph}, embedding_function=None
        )
        step = client.get_max_batch_size()
        for start in range(0, len(vectors), step):
            block = vectors[start : start + step]
            ids = [str(start + i) for i in range(len(block))]
            collection.add(ids=ids, embeddings=block)

    def open(self, folder: Path, vectors: Floats) -> None:
        self._folder, self._one = folder, vectors[:1]

    def set_effort(self, effort: Effort) -> None:
        from chromadb.api.shared_system_client import SharedSystemClient

        graph = {"ef_search": effort[0], "num_threads": 1}
        self._opened().modify(configuration={"hnsw": graph})
        SharedSystemClient.clear_system_cache()
        self._collection = self._opened()
        self.ask(self._one)  # the first query reads the graph

    def ask(self, queries: Floats) -> Any:
        # A list of vectors is validated and converted sooner than a matrix is.
        return self._collection.query(
            query_embeddings=list(queries), n_results=K, include=["distances"]
        )

    def rows(self, answer: Any) -> Rows:
        return np.array([[int(id) for id in ids] for ids in answer["ids"]])

    def _opened(self) -> Any:
        return _chroma_client(self._folder).get_collection(_PASSAGES, embedding_function=None)


def _chroma_client(folder: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))


class Qdrant:
    """qdrant-client without a server, in memory: what it keeps on disk is a log to read back."""

    note = "exact: local mode scans in NumPy"
    families = AS_SHIPPED
    folder = "qdrant"

    def build(self, vectors: Floats, folder: Path) -> None:
        pass

    def open(self, folder: Path, vectors: Floats) -> None:
        from qdrant_client import QdrantClient, models

        self._models = models
        self._client = QdrantClient(":memory:")
        form = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
        self._client.create_collection(_PASSAGES, vectors_config=form)
        self._client.upload_collection(_PASSAGES, vectors=vectors, ids=range(len(vectors)))

    def set_effort(self, effort: Effort) -> None:
        pass

    def ask(self, queries: Floats) -> Any:
        if len(queries) == 1:
            found = self._client.query_points(
                _PASSAGES, query=queries[0], limit=K, with_payload=False
            )
            return [found]
        wanted = [self._models.QueryRequest(query=q, limit=K) for q in queries.tolist()]
        return self._client.query_batch_points(_PASSAGES, wanted)

    def rows(self, answer: Any) -> Rows:
        return np.array([[point.id for point in one.points] for one in answer])
