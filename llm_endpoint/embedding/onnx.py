"""Sentence and token vectors from an ONNX encoder on the CPU: mean over the mask, then L2.

The recipe is sentence-transformers' for all-MiniLM-L6-v2 (1_Pooling/config.json: mean of tokens;
modules.json: then Normalize), checked against it in tests/components.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from llm_endpoint.embedding.direct import DirectEmbedder
from llm_endpoint.embedding.encoder import Tokens
from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.errors import (
    EngineUnavailable,
    InvalidTokens,
    WeightsMissing,
    WeightsUnreadable,
)

# Tokenising a million characters takes 0.6 s and 256 tokens of it are used. English has about 4.5
# characters a token, so 64 a token only ever cuts what truncation would have cut.
_MAX_CHARACTERS_PER_TOKEN = 64


class OnnxEncoder:
    """An encoder with inputs input_ids, attention_mask, token_type_ids."""

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
        # What the tokenizer puts around a text: [CLS] and [SEP].
        empty = self._tokenizer.encode("")
        self._before, self._after = empty.ids[:1], empty.ids[1:]

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    def tokens_of_texts(self, texts: Sequence[str]) -> list[Tokens]:
        cap = self._info.max_tokens * _MAX_CHARACTERS_PER_TOKEN
        capped = [text[:cap] for text in texts]
        with self._tokenizer_lock:
            encodings = self._tokenizer.encode_batch(capped)
        around = len(self._before) + len(self._after)
        return [
            Tokens(
                encoding.ids,
                _content(encoding),
                sum(len(rest.ids) - around for rest in encoding.overflowing),
            )
            for encoding in encodings
        ]

    def tokens_of_ids(self, ids: Sequence[Sequence[int]]) -> list[Tokens]:
        """Without [CLS] and [SEP], which are put around them."""
        vocabulary = self._tokenizer.get_vocab_size()
        room = self._info.max_tokens - len(self._before) - len(self._after)
        found = []
        for index, one in enumerate(ids):
            wrong = next((token for token in one if not 0 <= token < vocabulary), None)
            if wrong is not None:
                raise InvalidTokens(index, wrong, vocabulary)
            inner = list(one[:room])
            first = len(self._before)
            whole = [*self._before, *inner, *self._after]
            found.append(Tokens(whole, (first, first + len(inner)), len(one) - len(inner)))
        return found

    def encode(self, batch: Sequence[Tokens]) -> NDArray[np.float32]:
        return _pool(*self._run(batch))

    def encode_tokens(self, batch: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        states, _ = self._run(batch)
        return [
            _unit(rows[slice(*tokens.content)]) for rows, tokens in zip(states, batch, strict=True)
        ]

    def close(self) -> None:
        self._session = None

    def _run(self, batch: Sequence[Tokens]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The last hidden states (texts, width, dim) and the mask (texts, width), 0 for padding."""
        session = self._session
        if session is None:
            raise EngineUnavailable(f"the embedder {self._info.id} is closed; build a new one")
        width = max(len(tokens) for tokens in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens.ids
            mask[row, : len(tokens)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = session.run(["last_hidden_state"], inputs)
        return states, mask


class OnnxEmbedder(DirectEmbedder):
    """An OnnxEncoder that its callers run themselves; safe across threads, as its session is."""

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
        super().__init__(
            OnnxEncoder(
                model_file,
                tokenizer_file,
                id=id,
                weights_sha256=weights_sha256,
                max_tokens=max_tokens,
                threads=threads,
            )
        )


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


def _content(encoding: Encoding) -> tuple[int, int]:
    """Where the text itself stands: special tokens are at its ends only."""
    is_special = encoding.special_tokens_mask
    first = next((at for at, special in enumerate(is_special) if not special), 0)
    return first, first + len(is_special) - sum(is_special)


def _pool(states: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    weights = mask[:, :, None].astype(np.float32)
    return _unit((states * weights).sum(axis=1) / weights.sum(axis=1))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    vectors: NDArray[np.float32] = rows / np.maximum(length, np.float32(1e-12))
    return vectors
