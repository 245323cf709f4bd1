"""Runs in an environment with sentence-transformers: makes a small cross-encoder, scores with it
as sentence-transformers does and as we do, and reports both as JSON.

usage: python cross_encoder_reference.py <tokenizer.json> <pairs.json> <empty folder>
"""

import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from llm_endpoint.errors import LlmEndpointError
from llm_endpoint.rerank.cross_encoder import CrossEncoderReranker


def main(tokenizer_file: str, pairs_file: str, folder: str) -> None:
    pairs = json.loads(Path(pairs_file).read_text(encoding="utf-8"))
    question, texts = pairs["question"], pairs["texts"]
    names = ("good", "damaged", "pickled", "two", "headless")
    good, damaged, pickled, two_labels, headless = (Path(folder, name) for name in names)
    for one_label in (good, damaged, pickled):
        make_model(one_label, tokenizer_file, labels=1)
    make_model(two_labels, tokenizer_file, labels=2)
    (damaged / "model.safetensors").write_bytes(b"not safetensors")
    weights = CrossEncoder(str(good), device="cpu").model.state_dict()
    (pickled / "model.safetensors").unlink()
    torch.save(weights, pickled / "pytorch_model.bin")
    make_embedder(headless, good)

    reranker = CrossEncoderReranker(good, model="tiny")
    theirs = CrossEncoder(str(good), device=reranker.device, local_files_only=True)
    report = {
        "device": reranker.device,
        "has_gpu": torch.cuda.is_available(),
        "theirs": theirs.predict([(question, text) for text in texts]).tolist(),
        "ours": asyncio.run(reranker.rerank(question, texts)).tolist(),
        "dtype": str(asyncio.run(reranker.rerank(question, texts)).dtype),
        "empty": list(asyncio.run(reranker.rerank(question, [])).shape),
        "threads_agree": do_threads_agree(reranker, question, texts),
        "closed": refusal_of(lambda: asyncio.run(close_and_ask(reranker))),
        "missing": refusal_of(lambda: CrossEncoderReranker(Path(folder, "none"), model="x")),
        "two_labels": refusal_of(lambda: CrossEncoderReranker(two_labels, model="x")),
        "damaged": refusal_of(lambda: CrossEncoderReranker(damaged, model="x")),
        "headless": refusal_of(lambda: CrossEncoderReranker(headless, model="x")),
        "pickled": refusal_of(lambda: CrossEncoderReranker(pickled, model="x")),
    }
    Path(folder, "report.json").write_text(json.dumps(report), encoding="utf-8")


def make_model(folder: Path, tokenizer_file: str, *, labels: int) -> None:
    """Random weights: any would do, for the same ones are read twice."""
    torch.manual_seed(20261124)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=tokenizer_file,
        model_max_length=128,
        **{"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"},
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=labels,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_embedder(folder: Path, cross_encoder: Path) -> None:
    BertModel.from_pretrained(cross_encoder).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(cross_encoder).save_pretrained(folder)


def do_threads_agree(reranker: CrossEncoderReranker, question: str, texts: list[str]) -> bool:
    """Eight calls from eight threads: a fast tokenizer used by two at once raises."""

    def score(_: int) -> NDArray[np.float32]:
        return asyncio.run(reranker.rerank(question, texts))

    expected = score(0)
    with ThreadPoolExecutor(8) as pool:
        return all(np.array_equal(expected, got) for got in pool.map(score, range(8)))


async def close_and_ask(reranker: CrossEncoderReranker) -> None:
    await reranker.close()
    await reranker.close()
    await reranker.rerank("a", ["b"])


def refusal_of(call: Callable[[], object]) -> str:
    try:
        call()
    except LlmEndpointError as exc:
        return f"{type(exc).__name__}: {exc}"
    return "no error"


if __name__ == "__main__":
    main(*sys.argv[1:])
