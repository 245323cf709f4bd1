"""Runs in an environment with sentence-transformers: texts in by JSON, vectors out by .npy.

usage: python embedding_parity_reference.py <model folder> <texts.json> <vectors.npy> [tokens]
with `tokens`: the vectors of all tokens of all texts, one after the other, [CLS] and [SEP] left out
"""

import json
import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer


def main(model_folder: str, texts_file: str, vectors_file: str, unit: str = "texts") -> None:
    model = SentenceTransformer(model_folder, device="cpu", local_files_only=True)
    texts = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    if unit == "tokens":
        tokens = model.encode(texts, output_value="token_embeddings")
        vectors = np.concatenate([np.asarray(states)[1:-1] for states in tokens])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    else:
        vectors = model.encode(texts, batch_size=16, normalize_embeddings=True)
    np.save(vectors_file, np.asarray(vectors, dtype=np.float32))


if __name__ == "__main__":
    main(*sys.argv[1:])
