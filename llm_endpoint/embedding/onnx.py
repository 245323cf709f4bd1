"""Sentence and token vectors from an ONNX encoder on the CPU: mean over the mask, then L2.

The recipe is sentence-transformers' for all-MiniLM-L6-v2 (1_Pooling/config.json: mean of tokens;
modules.json: then Normalize), checked against it in tests/components.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.errors import EngineUnavailable, WeightsMissing, WeightsUnreadable
from llm_endpoint.text import check_texts

# Padded tokens per run. Of 256, 1024 and 4096, 1024 was the fastest on 2 cores.
_BATCH_TOKENS = 1024
# Texts tokenised and sorted together: bounds memory and keeps progress moving.
_WINDOW_TEXTS = 512
# Tokenising a million characters takes 0.6 s and 256 tokens of it are used. English has about 4.5
# characters a token, so 64 a token only ever cuts what truncation would have cut.
_MAX_CHARACTERS_PER_TOKEN = 64

_Batch = tuple[NDArray[np.int64], list[Encoding]]


class OnnxEmbedder:
    """An encoder with inputs input_ids, attention_mask, token_type_ids, safe across threads."""

    def __init__(
        self,
        model_file: Path,
        tokenizer_file: Path,
        *,
        id: str,
        weights_sha256: str,
        max_tokens: int = 256,
        threads: int = 2,
    ) -> None:
        self._tokenizer = _load_tokenizer(tokenizer_file, max_tokens)
        # One fast tokenizer in two threads raises "Already borrowed".
        self._tokenizer_lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = _load_session(model_file, threads)
        dim = self._session.get_outputs()[0].shape[-1]
        self._info = EmbedderInfo(id, weights_sha256, int(dim), max_tokens, tokenizer_file)

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed_passages(texts)

    def embed_passages(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        check_texts(texts)
        vectors = np.empty((len(texts), self._info.dim), dtype=np.float32)
        for positions, batch in self._tokenized(texts):
            vectors[positions] = _pool(*self._encode(batch))
            if on_progress:
                on_progress(len(batch))
        return vectors

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        check_texts(texts)
        vectors = [np.empty((0, self._info.dim), dtype=np.float32)] * len(texts)
        for positions, batch in self._tokenized(texts):
            states, _ = self._encode(batch)
            for position, encoding, rows in zip(positions, batch, states, strict=True):
                vectors[position] = _content(rows, encoding)
        return vectors

    def close(self) -> None:
        self._session = None

    def _tokenized(self, texts: Sequence[str]) -> Iterator[_Batch]:
        """Every text once, in runs for the session, with its positions in `texts`."""
        for start in range(0, len(texts), _WINDOW_TEXTS):
            for positions, batch in _batches(self._tokenize(texts[start : start + _WINDOW_TEXTS])):
                yield start + positions, batch

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        cap = self._info.max_tokens * _MAX_CHARACTERS_PER_TOKEN
        capped = [text[:cap] for text in texts]
        with self._tokenizer_lock:
            return self._tokenizer.encode_batch(capped)

    def _encode(self, batch: list[Encoding]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The last hidden states (texts, width, dim) and the mask (texts, width), 0 for padding."""
        session = self._session
        if session is None:
            raise EngineUnavailable(f"the embedder {self._info.id} is closed; build a new one")
        width = max(len(encoding.ids) for encoding in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(batch):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = session.run(["last_hidden_state"], inputs)
        return states, mask


def _load_tokenizer(file: Path, max_tokens: int) -> Tokenizer:
    if not file.is_file():
        raise WeightsMissing(file)
    # Its thread pool would fight the encoder's for the same cores; tokenising is 1% of the work.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as exc:
        raise WeightsUnreadable(file, str(exc)) from exc
    # The file ships with both switched on, at 128.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _load_session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    if not file.is_file():
        raise WeightsMissing(file)
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Measured with 2 threads on 2 cores, one 11-token question: spinning 3.3 ms back to back and
    # 4.0 ms at 50 questions a second, at 28.5 ms of CPU each; not spinning 3.7 and 5.9 ms, at
    # 6.5 ms of CPU each. Two milliseconds buy back a core and a half for the generator.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise WeightsUnreadable(file, str(exc)) from exc


def _batches(encodings: list[Encoding]) -> Iterator[_Batch]:
    """Runs of texts of like length, at most _BATCH_TOKENS padded tokens each (one text at least)"""
    lengths = np.array([len(encoding.ids) for encoding in encodings])
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        # Sorted ascending: the next text is the widest so far and sets the padding for all.
        while end < len(order) and lengths[order[end]] * (end - start + 1) <= _BATCH_TOKENS:
            end += 1
        positions = order[start:end]
        yield positions, [encodings[position] for position in positions]
        start = end


def _pool(states: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    weights = mask[:, :, None].astype(np.float32)
    return _unit((states * weights).sum(axis=1) / weights.sum(axis=1))


def _content(states: NDArray[np.float32], encoding: Encoding) -> NDArray[np.float32]:
    is_content = np.array(encoding.special_tokens_mask) == 0
    return _unit(states[: len(is_content)][is_content])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    vectors: NDArray[np.float32] = rows / np.maximum(length, np.float32(1e-12))
    return vectors
