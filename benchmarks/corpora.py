"""What is searched: vectors, queries and their true neighbours, made once and kept on disk.

`clustered`: the recipe of benchmarks/kinds.py, drawn block by block so that a million rows fit:
1,000 Gaussian centres in 64 dimensions, points around them with 1.2 times their spread, turned
into `dim` dimensions by a random orthonormal basis, noise of 0.05 a dimension, L2-normalised.

`passages`: what the standard library and the installed packages say of themselves (docstrings,
.md, .rst and .txt files), cut by our splitter and embedded with the default ONNX model, whose
weights are in HEADRACE_WEIGHTS_DIR. Which packages are installed decides which passages there
are, so its figures compare within one cache, not across machines.

Queries are rows drawn alike and held out of what is searched.
"""

import ast
import os
import random
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

K = 10
QUERIES = 1000
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Source = Literal["clustered", "passages"]

_BLOCK = 50_000
_SHORTEST_TEXT = 200
_MAX_TOKENS = 200  # as headrace.settings cuts by default
_MODEL = "all-minilm-l6-v2-int8"


@dataclass(frozen=True, slots=True)
class Corpus:
    """vectors float32 (n, dim), queries float32 (1000, dim), truth int64 (1000, 10)."""

    folder: Path
    vectors: Floats
    queries: Floats
    truth: Rows

    def recall(self, found: Rows, which: slice) -> float:
        """recall@10 of the rows found, (m, at most 10), for these queries."""
        pairs = zip(found.tolist(), self.truth[which].tolist(), strict=True)
        return float(np.mean([len(set(a) & set(b)) / K for a, b in pairs]))


def load_corpus(cache: Path, source: Source, rows: int, dim: int) -> Corpus:
    """The corpus from the cache, made first where it is not there; vectors are mapped."""
    drawn: Floats | None = None
    if source == "passages":
        drawn = _embedded_passages(cache, rows + QUERIES)
        rows, dim = len(drawn) - QUERIES, drawn.shape[1]
    folder = cache / f"{source}-{rows}x{dim}"
    if not (folder / "truth.npy").exists():
        if drawn is None:
            drawn = clustered(rows + QUERIES, dim)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vectors.npy", drawn[QUERIES:])
        np.save(folder / "queries.npy", drawn[:QUERIES])
        np.save(folder / "truth.npy", _true_rows(drawn[:QUERIES], drawn[QUERIES:]))
    vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))
    return Corpus(folder, vectors, np.load(folder / "queries.npy"), np.load(folder / "truth.npy"))


def clustered(rows: int, dim: int) -> Floats:
    """Float32 (rows, dim) of the first recipe above, the same every time."""
    rng = np.random.default_rng(0)
    latent = min(64, dim)
    basis = np.linalg.qr(rng.standard_normal((dim, latent)))[0].T.astype(np.float32)
    centres = rng.standard_normal((1000, latent), dtype=np.float32)
    points = np.empty((rows, dim), np.float32)
    for start in range(0, rows, _BLOCK):
        block = points[start : start + _BLOCK]
        spread = np.float32(1.2) * rng.standard_normal((len(block), latent), dtype=np.float32)
        np.matmul(centres[rng.integers(0, len(centres), len(block))] + spread, basis, out=block)
        block += np.float32(0.05) * rng.standard_normal(block.shape, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return points


def _true_rows(queries: Floats, vectors: Floats) -> Rows:
    scores = np.full((len(queries), K), -np.inf, np.float32)
    rows = np.full((len(queries), K), -1, np.int64)
    for start in range(0, len(vectors), _BLOCK):
        products = queries @ vectors[start : start + _BLOCK].T
        best = np.argpartition(-products, min(K, products.shape[1]) - 1, axis=1)[:, :K]
        scores = np.concatenate([scores, np.take_along_axis(products, best, axis=1)], axis=1)
        rows = np.concatenate([rows, best + start], axis=1)
        order = np.argsort(-scores, axis=1)[:, :K]
        scores = np.take_along_axis(scores, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
    return rows


def _embedded_passages(cache: Path, wanted: int) -> Floats:
    """The vectors of so many passages, or of all where there are fewer; made once."""
    file = cache / f"passages-{wanted}.npy"
    if not file.exists():
        weights = Path(os.environ["HEADRACE_WEIGHTS_DIR"]) / _MODEL
        texts = _passages(weights / "tokenizer.json", wanted)[:wanted]
        print(f"embedding {len(texts):,} passages", file=sys.stderr, flush=True)
        vectors = _embed(weights, texts)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, vectors)
    loaded: Floats = np.load(file)
    return loaded


def _embed(weights: Path, texts: list[str]) -> Floats:
    from llm_endpoint.embedding.onnx import OnnxEmbedder

    embedder: Any = OnnxEmbedder(
        weights / "model.onnx", weights / "tokenizer.json", id=_MODEL, weights_sha256=""
    )
    vectors: Floats = embedder.embed_passages(texts)
    return vectors


def _passages(tokenizer: Path, wanted: int) -> list[str]:
    """The first different passages of files in a random order, the same every time, shuffled."""
    from pipelines.chunking import token_chunker

    chunk = token_chunker(tokenizer, _MAX_TOKENS)
    pieces: dict[str, str] = {}
    for text in _texts():
        pieces |= {piece.text_hash: piece.text for piece in chunk(text)}
        if len(pieces) >= wanted:
            break
    return [pieces[key] for key in sorted(pieces)]


def _texts() -> Iterator[str]:
    paths = sysconfig.get_paths()
    homes = sorted({paths["stdlib"], paths["purelib"], paths["platlib"]})
    files = [path for home in homes for path in sorted(Path(home).rglob("*"))]
    files = [path for path in files if path.suffix in (".md", ".rst", ".txt", ".py")]
    random.Random(0).shuffle(files)
    for path in files:
        if not path.is_file():
            continue
        content = path.read_bytes().decode("utf-8", "ignore")
        found = _docstrings(content) if path.suffix == ".py" else [content]
        yield from (text for text in found if len(text) >= _SHORTEST_TEXT)


def _docstrings(content: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
