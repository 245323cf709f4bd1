"""Sentence and token vectors by sentence-transformers, on the GPU where there is one.

Needs the extra [gpu]: nothing of it is imported before an encoder is built.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.embedding.encoder import Tokens
from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.errors import (
    EngineUnavailable,
    ExtraMissing,
    InvalidTokens,
    WeightsMissing,
    WeightsUnreadable,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Device = Literal["cpu", "cuda"]
# As in onnx.py: more characters than these are never read.
_MAX_CHARACTERS_PER_TOKEN = 64


class SentenceTransformersEncoder:
    """A model in a local folder of safetensors, pooled and normalised as its modules say."""

    def __init__(
        self, folder: Path, *, id: str, weights_sha256: str, device: Device | None = None
    ) -> None:
        """device: None takes the GPU if torch sees one.

        Raises ExtraMissing, WeightsMissing, or WeightsUnreadable; also for weights that are not
        safetensors, because the older format runs code when it is read.
        """
        model = _load(folder, device)
        self._model: SentenceTransformer | None = model
        self._tokenizer = model.tokenizer
        self._max_tokens = int(model.max_seq_length or 512)
        dim = int(model.get_embedding_dimension() or 0)
        self._info = EmbedderInfo(
            id, weights_sha256, dim, self._max_tokens, _existing(folder / "tokenizer.json")
        )
        around = self._tokenizer("")["input_ids"]
        self._before, self._after = list(around[:1]), list(around[1:])

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    def tokens_of_texts(self, texts: Sequence[str]) -> list[Tokens]:
        cap = self._max_tokens * _MAX_CHARACTERS_PER_TOKEN
        if not texts:
            return []
        # Its own truncation does not say what it took away.
        found = self._tokenizer([text[:cap] for text in texts], verbose=False)["input_ids"]
        first, last = len(self._before), len(self._after)
        return [self._fitted(ids[first : len(ids) - last]) for ids in found]

    def tokens_of_ids(self, ids: Sequence[Sequence[int]]) -> list[Tokens]:
        """Without the tokens that the model puts around a text."""
        vocabulary = len(self._tokenizer)
        made = []
        for index, one in enumerate(ids):
            wrong = next((token for token in one if not 0 <= token < vocabulary), None)
            if wrong is not None:
                raise InvalidTokens(index, wrong, vocabulary)
            made.append(self._fitted(one))
        return made

    def _fitted(self, inner: Sequence[int]) -> Tokens:
        """A text's own tokens, as many as there is room for, with those that belong around them."""
        first = len(self._before)
        kept = list(inner[: self._max_tokens - first - len(self._after)])
        whole = [*self._before, *kept, *self._after]
        return Tokens(whole, (first, first + len(kept)), len(inner) - len(kept))

    def encode(self, batch: Sequence[Tokens]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._run(batch)["sentence_embedding"]
        return _unit(vectors)

    def encode_tokens(self, batch: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        states = self._run(batch)["token_embeddings"]
        return [
            _unit(rows[slice(*tokens.content)]) for rows, tokens in zip(states, batch, strict=True)
        ]

    def close(self) -> None:
        self._model = None

    def _run(self, batch: Sequence[Tokens]) -> dict[str, NDArray[np.float32]]:
        import torch

        model = self._model
        if model is None:
            raise EngineUnavailable(f"the embedder {self._info.id} is closed; build a new one")
        width = max(len(tokens) for tokens in batch)
        ids = np.full((len(batch), width), self._tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens.ids
            mask[row, : len(tokens)] = 1
        features = {
            "input_ids": torch.from_numpy(ids).to(model.device),
            "attention_mask": torch.from_numpy(mask).to(model.device),
        }
        with torch.inference_mode():
            made = model(features)
        wanted = ("sentence_embedding", "token_embeddings")
        return {name: made[name].float().cpu().numpy() for name in wanted}


def _load(folder: Path, device: Device | None) -> "SentenceTransformer":
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as exc:
        raise ExtraMissing(exc.name or "sentence_transformers", "gpu") from exc
    if not (folder / "config.json").is_file():
        raise WeightsMissing(folder / "config.json")
    try:
        return SentenceTransformer(
            str(folder),
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except Exception as exc:
        raise WeightsUnreadable(folder, str(exc)) from exc


def _existing(file: Path) -> Path | None:
    return file if file.is_file() else None


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    vectors: NDArray[np.float32] = rows / np.maximum(length, np.float32(1e-12))
    return vectors
