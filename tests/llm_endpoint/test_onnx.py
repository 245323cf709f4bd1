import time
from pathlib import Path

import numpy as np
import pytest

from llm_endpoint import find_card
from llm_endpoint.embedding.onnx import OnnxEmbedder
from llm_endpoint.errors import EngineUnavailable, WeightsMissing, WeightsUnreadable


def build(folder: Path, *, model: str = "model.onnx") -> OnnxEmbedder:
    return OnnxEmbedder(
        folder / model, folder / "tokenizer.json", id="minilm", weights_sha256="0" * 64
    )


@pytest.fixture
def folder(weights_dir: Path) -> Path:
    return weights_dir / find_card("all-minilm-l6-v2-int8").name


def test_it_finds_the_paraphrase_that_shares_no_words(folder: Path) -> None:
    query, same, other = build(folder).embed_queries(
        [
            "The feline slept on the rug",
            "A cat was napping upon a carpet",
            "Interest rates rose sharply",
        ]
    )
    assert query @ same > 0.5
    assert query @ other < 0.2


def test_text_beyond_256_tokens_changes_nothing_and_text_before_does(folder: Path) -> None:
    embedder = build(folder)
    short, long, other = embedder.embed_passages(
        ["apple " * 254, "apple " * 254 + "volcano " * 500, "apple " * 200 + "volcano " * 54]
    )
    assert embedder.info.max_tokens == 256
    assert short @ long > 0.9999
    assert short @ other < 0.99


def test_a_huge_text_costs_no_more_than_a_full_one(folder: Path) -> None:
    embedder = build(folder)
    embedder.embed_passages(["word " * 256])
    started = time.perf_counter()
    embedder.embed_passages(["word " * 4_000_000])
    assert time.perf_counter() - started < 1.0


def test_an_idle_embedder_burns_no_cpu(folder: Path) -> None:
    embedder = build(folder)
    embedder.embed_queries(["warm up"])
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_the_info_names_model_weights_and_tokenizer(folder: Path) -> None:
    info = build(folder).info
    assert (info.id, info.weights_sha256, info.dim) == ("minilm", "0" * 64, 384)
    assert info.tokenizer_file == folder / "tokenizer.json"


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"nothing\.onnx"):
        build(folder, model="nothing.onnx")
    with pytest.raises(WeightsMissing, match=r"tokenizer\.json"):
        build(tmp_path)


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(WeightsUnreadable, match=r"model\.onnx"):
        build(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsUnreadable, match=r"tokenizer\.json"):
        build(tmp_path)


def test_a_closed_embedder_says_so(folder: Path) -> None:
    embedder = build(folder)
    embedder.close()
    embedder.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        embedder.embed_queries(["x"])


def test_five_hundred_and_thirteen_texts_cross_a_window(folder: Path) -> None:
    texts = [f"number {number}" for number in range(513)]
    embedder = build(folder)
    vectors = embedder.embed_passages(texts)
    assert np.sum(vectors[512] * embedder.embed_queries([texts[512]])[0]) > 0.9999
