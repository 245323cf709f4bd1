"""Runs in an environment with sentence-transformers: vectors by its own `encode`, and by ours
through an embedding server; reports how alike they are as JSON.

usage: python sentence_transformers_reference.py <model folder> <texts.json> <report.json>
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from llm_endpoint.embedding.sentence_transformers import SentenceTransformersEncoder
from llm_endpoint.embedding.server import EmbeddingServer
from llm_endpoint.errors import LlmEndpointError


def main(folder: str, texts_file: str, report_file: str) -> None:
    texts = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    reference = SentenceTransformer(folder, device="cpu", local_files_only=True)
    wanted = reference.encode(texts, normalize_embeddings=True)
    tokens = reference.encode(texts[:4], output_value="token_embeddings")
    server = EmbeddingServer(
        lambda: SentenceTransformersEncoder(
            Path(folder), id="m", weights_sha256="0" * 64, device="cpu"
        )
    )
    found, bulk = server.embed_passages(texts), server.bulk.embed_passages(texts)
    ours = server.embed_tokens(texts[:4])
    words = reference.tokenizer("reads csv files", add_special_tokens=False)["input_ids"]
    by_ids = asyncio.run(server.embed([words])).vectors
    report = {
        "dim": server.info.dim,
        "max_tokens": server.info.max_tokens,
        "cosine": float(np.sum(found * wanted, axis=1).min()),
        "bulk": float(np.sum(bulk * wanted, axis=1).min()),
        "ids": float(np.sum(by_ids * server.embed_passages(["reads csv files"]))),
        "tokens": [[len(mine), len(theirs) - 2] for mine, theirs in zip(ours, tokens, strict=True)],
        "refused": refusal(folder),
    }
    server.close()
    Path(report_file).write_text(json.dumps(report), encoding="utf-8")


def refusal(folder: str) -> str:
    try:
        SentenceTransformersEncoder(Path(folder) / "1_Pooling", id="m", weights_sha256="0" * 64)
    except LlmEndpointError as exc:
        return f"{type(exc).__name__}: {exc}"
    return "none"


if __name__ == "__main__":
    main(*sys.argv[1:])
