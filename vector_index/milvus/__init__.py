"""Passages kept by a Milvus server, for an index that outgrows one machine.

The only folder that imports pymilvus, and only once an index is opened.
"""

from vector_index.milvus.index import MilvusIndex
from vector_index.milvus.state import settings_in_milvus
from vector_index.milvus.store import MilvusPlace

__all__ = ["MilvusIndex", "MilvusPlace", "settings_in_milvus"]
