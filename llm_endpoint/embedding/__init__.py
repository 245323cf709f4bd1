"""Text in, vectors out."""

from llm_endpoint.embedding.hashing import HashingEmbedder
from llm_endpoint.embedding.protocol import Embedder, EmbedderInfo, TokenEmbedder

__all__ = ["Embedder", "EmbedderInfo", "HashingEmbedder", "TokenEmbedder"]
