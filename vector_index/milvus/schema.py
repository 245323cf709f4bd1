"""How the three collections of an index are laid out, and how its vectors are indexed."""

from collections.abc import Mapping
from typing import Any, Literal

from vector_index.fulltext.protocol import K1, B
from vector_index.kinds import KindName
from vector_index.manifest import IndexSettings
from vector_index.milvus.names import value_field, words_field
from vector_index.milvus.rows import MAX_ARRAY, MAX_STRING_BYTES
from vector_index.passages import MetadataType

# Milvus wants a vector in every collection; documents and the state have none of their own.
_UNUSED_DIM = 2

_INDEXES: Mapping[KindName | Literal["auto"], tuple[str, dict[str, object]]] = {
    "auto": ("AUTOINDEX", {}),
    "exact": ("FLAT", {}),
    "flat": ("FLAT", {}),
    "ivf_flat": ("IVF_FLAT", {"nlist": 1024}),
    "ivf_sq8": ("IVF_SQ8", {"nlist": 1024}),
    "ivf_rabitq": ("IVF_RABITQ", {"nlist": 1024, "refine": True, "refine_type": "SQ8"}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}),
    "hnsw_sq8": ("HNSW_SQ", {"M": 32, "efConstruction": 200, "sq_type": "SQ8"}),
}
_PROBES = 64
_LEAST_EF = 128


def search_params(kind: KindName | Literal["auto"], limit: int) -> dict[str, object]:
    """How far an approximate index looks; `limit` rows are wanted."""
    family = _INDEXES[kind][0].split("_")[0]
    if family == "HNSW":
        return {"ef": max(limit, _LEAST_EF)}
    return {"nprobe": _PROBES} if family == "IVF" else {}


def passages_schema(settings: IndexSettings) -> tuple[Any, Any]:
    """pymilvus' schema and index parameters of the passages of such an index."""
    from pymilvus import DataType, Function, FunctionType, MilvusClient

    schema = _schema()
    _add_lifetime(schema)
    schema.add_field("loose", DataType.BOOL)
    _add_string(schema, "tenant", nullable=True)
    _add_strings(schema, "allowed_groups")
    _add_string(schema, "text")
    _add_string(schema, "facts")
    _add_string(schema, "terms", enable_analyzer=True)
    schema.add_field("term_weights", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=["terms"],
            output_field_names=["term_weights"],
        )
    )
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=settings.embedder.dim)
    for column, kind in settings.metadata_columns.items():
        _add_column(schema, column, kind)
    indexes = MilvusClient.prepare_index_params()
    index_type, params = _INDEXES[settings.kind]
    indexes.add_index(field_name="vector", index_type=index_type, metric_type="IP", params=params)
    indexes.add_index(
        field_name="term_weights",
        index_type="SPARSE_INVERTED_INDEX",
        metric_type="BM25",
        params={"bm25_k1": K1, "bm25_b": B},
    )
    return schema, indexes


def documents_schema() -> tuple[Any, Any]:
    """The schema and index parameters of the list of documents."""
    schema = _schema()
    _add_lifetime(schema)
    _add_string(schema, "document_hash")
    return schema, _unused_vector(schema)


def state_schema() -> tuple[Any, Any]:
    """The schema and index parameters of the one record that says what is live."""
    schema = _schema()
    _add_string(schema, "state")
    return schema, _unused_vector(schema)


def _schema() -> Any:
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=MAX_STRING_BYTES)
    return schema


def _add_lifetime(schema: Any) -> None:
    from pymilvus import DataType

    _add_string(schema, "document_id")
    schema.add_field("since", DataType.INT64)
    schema.add_field("until", DataType.INT64)


def _add_column(schema: Any, column: str, kind: MetadataType) -> None:
    from pymilvus import DataType

    types = {"int": DataType.INT64, "timestamp": DataType.INT64, "date": DataType.INT64,
             "float": DataType.DOUBLE, "bool": DataType.BOOL}  # fmt: skip
    if kind == "strings":
        _add_strings(schema, value_field(column))
    elif kind == "string":
        _add_string(schema, value_field(column), nullable=True)
        _add_strings(schema, words_field(column))
    else:
        schema.add_field(value_field(column), types[kind], nullable=True)


def _add_string(schema: Any, name: str, **options: bool) -> None:
    from pymilvus import DataType

    schema.add_field(name, DataType.VARCHAR, max_length=MAX_STRING_BYTES, **options)


def _add_strings(schema: Any, name: str) -> None:
    from pymilvus import DataType

    schema.add_field(
        name,
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_capacity=MAX_ARRAY,
        max_length=MAX_STRING_BYTES,
        nullable=True,
    )


def _unused_vector(schema: Any) -> Any:
    from pymilvus import DataType, MilvusClient

    schema.add_field("unused", DataType.FLOAT_VECTOR, dim=_UNUSED_DIM)
    indexes = MilvusClient.prepare_index_params()
    indexes.add_index(field_name="unused", index_type="FLAT", metric_type="IP")
    return indexes
