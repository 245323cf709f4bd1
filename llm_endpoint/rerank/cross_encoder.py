"""A cross-encoder read by sentence-transformers, on the GPU where there is one.

Needs the extra [gpu]: nothing of it is imported before a reranker is built.
"""

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from llm_endpoint.errors import EngineUnavailable, ExtraMissing, WeightsMissing, WeightsUnreadable
from llm_endpoint.rerank.protocol import RerankerInfo
from llm_endpoint.text import check_texts

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

Device = Literal["cpu", "cuda"]

# Large rerankers are language models that are asked for the logit of "yes".
_HEADS = ("ForSequenceClassification", "ForCausalLM")


class CrossEncoderReranker:
    """A model with one label in a local folder. Its scale is the model's own activation: a
    sigmoid's 0..1 unless its config says otherwise, then logits, in practice -12..12.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str,
        weights_sha256: str | None = None,
        device: Device | None = None,
        batch_texts: int = 32,
        executor: Executor | None = None,
    ) -> None:
        """device: None takes the GPU if torch sees one. executor: None is the loop's default.

        Raises ExtraMissing, WeightsMissing, or WeightsUnreadable; also for weights that are not
        safetensors, because the older format runs code when it is read.
        """
        self.device: Device = device or _best_device()
        self._model: CrossEncoder | None = _load(folder, self.device)
        self._info = RerankerInfo(model, "sentence-transformers", weights_sha256)
        self._batch_texts = batch_texts
        self._executor = executor
        # predict() sets padding and truncation on the one tokenizer, and a device is one queue.
        self._lock = threading.Lock()

    @property
    def info(self) -> RerankerInfo:
        return self._info

    async def rerank(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._scores, question, texts)

    async def close(self) -> None:
        self._model = None

    def _scores(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts([question])
        check_texts(texts)
        model = self._model
        if model is None:
            raise EngineUnavailable(f"{self._info.model} is closed; build a new one")
        if not texts:
            return np.empty(0, dtype=np.float32)
        pairs = [(question, text) for text in texts]
        with self._lock:
            scores = model.predict(pairs, batch_size=self._batch_texts, show_progress_bar=False)
        return np.asarray(scores, dtype=np.float32)


def _best_device() -> Device:
    try:
        import torch
    except ImportError as exc:
        raise ExtraMissing("torch", "gpu") from exc
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(folder: Path, device: Device) -> "CrossEncoder":
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as exc:
        raise ExtraMissing("sentence_transformers", "gpu") from exc
    _check_has_head(folder)
    try:
        model = CrossEncoder(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except Exception as exc:
        raise WeightsUnreadable(folder, str(exc)) from exc
    if model.num_labels != 1:
        raise WeightsUnreadable(folder, f"a reranker has one label, this has {model.num_labels}")
    return model


def _check_has_head(folder: Path) -> None:
    """An embedder loads as well: sentence-transformers then puts a random head on it."""
    config = folder / "config.json"
    if not config.is_file():
        raise WeightsMissing(config)
    try:
        names = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
    except (ValueError, AttributeError) as exc:
        raise WeightsUnreadable(config, str(exc)) from exc
    if not any(str(name).endswith(_HEADS) for name in names):
        raise WeightsUnreadable(folder, f"{names} has no head that scores; it is no cross-encoder")
