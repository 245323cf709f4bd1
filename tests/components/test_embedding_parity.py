"""Our int8 ONNX vectors against the reference: sentence-transformers with float32 weights.

Needs an environment of its own (torch is not in ours), named by HEADRACE_ST_PYTHON:
python3 -m venv <folder>; <folder>/bin/pip install torch==2.13.0 sentence-transformers
"""

import importlib
import inspect
import json
import os
import pydoc_data.topics
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from llm_endpoint import find_card, pull
from llm_endpoint.embedding.onnx import OnnxEmbedder

REFERENCE = Path(__file__).with_name("embedding_parity_reference.py")
MODULES = ("argparse", "asyncio", "collections", "csv", "email", "json", "logging", "pathlib")
PASSAGES = 500


def test_vectors_equal_those_of_sentence_transformers(weights_dir: Path, tmp_path: Path) -> None:
    embedder = onnx_embedder(weights_dir)
    tokenizer_file = embedder.info.tokenizer_file
    assert tokenizer_file is not None
    passages = real_passages(tokenizer_file)
    expected = reference_vectors(
        passages, pull(find_card("all-minilm-l6-v2"), weights_dir), tmp_path
    )

    cosines = np.sum(embedder.embed_passages(passages) * expected, axis=1)

    print(f"{len(passages)} passages: cosine mean {cosines.mean():.6f}, min {cosines.min():.6f}")
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.99


def test_a_text_longer_than_the_model_is_cut_where_sentence_transformers_cuts_it(
    weights_dir: Path, tmp_path: Path
) -> None:
    embedder = onnx_embedder(weights_dir)
    texts = [text for text in pydoc_data.topics.topics.values() if len(text) > 8000][:10]
    expected = reference_vectors(texts, pull(find_card("all-minilm-l6-v2"), weights_dir), tmp_path)

    cosines = np.sum(embedder.embed_passages(texts) * expected, axis=1)

    print(f"{len(texts)} long texts: cosine mean {cosines.mean():.6f}, min {cosines.min():.6f}")
    assert cosines.min() >= 0.99


def test_token_vectors_equal_those_of_sentence_transformers(
    weights_dir: Path, tmp_path: Path
) -> None:
    embedder = onnx_embedder(weights_dir)
    tokenizer_file = embedder.info.tokenizer_file
    assert tokenizer_file is not None
    passages = real_passages(tokenizer_file)[:50]
    folder = pull(find_card("all-minilm-l6-v2"), weights_dir)
    expected = reference_vectors(passages, folder, tmp_path, "tokens")

    tokens = np.concatenate(embedder.embed_tokens(passages))
    assert tokens.shape == expected.shape
    cosines = np.sum(tokens * expected, axis=1)

    print(f"{len(tokens)} tokens: cosine mean {cosines.mean():.6f}, min {cosines.min():.6f}")
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.98


def onnx_embedder(weights_dir: Path) -> OnnxEmbedder:
    card = find_card("all-minilm-l6-v2-int8")
    folder = weights_dir / card.name
    return OnnxEmbedder(
        folder / "model.onnx",
        folder / "tokenizer.json",
        id=card.name,
        weights_sha256=card.weights_sha256,
    )


def real_passages(tokenizer_file: Path) -> list[str]:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, 200)
    texts = [*pydoc_data.topics.topics.values(), *docstrings()]
    passages = [passage for text in texts for passage in splitter.chunks(text)]
    return random.Random(20261124).sample(passages, PASSAGES)


def docstrings() -> list[str]:
    modules = [importlib.import_module(name) for name in MODULES]
    members = [member for module in modules for _, member in inspect.getmembers(module)]
    return sorted({text for item in [*modules, *members] if (text := inspect.getdoc(item))})


def reference_vectors(
    texts: list[str], model: Path, folder: Path, unit: str = "texts"
) -> NDArray[np.float32]:
    python = os.environ.get("HEADRACE_ST_PYTHON")
    if not python:
        pytest.fail(
            "HEADRACE_ST_PYTHON is not set: point it at the interpreter of an environment made by "
            "`pip install torch==2.13.0 sentence-transformers`"
        )
    texts_file, vectors_file = folder / "texts.json", folder / "vectors.npy"
    texts_file.write_text(json.dumps(texts), encoding="utf-8")
    command = [python, str(REFERENCE), str(model), str(texts_file), str(vectors_file), unit]
    subprocess.run(command, check=True, timeout=600, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    vectors: NDArray[np.float32] = np.load(vectors_file, allow_pickle=False)
    return vectors
