"""A question and texts in, one score for each text out."""

from llm_endpoint.rerank.maxsim import MaxSimReranker
from llm_endpoint.rerank.overlap import WordOverlapReranker
from llm_endpoint.rerank.protocol import Reranker, RerankerInfo

__all__ = ["MaxSimReranker", "Reranker", "RerankerInfo", "WordOverlapReranker"]
