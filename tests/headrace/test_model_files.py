"""Weights in a folder of the operator's own."""

import shutil

import numpy as np
import pytest

from headrace import assembly
from headrace.model_files import weights_of
from headrace.settings import load_settings
from llm_endpoint import find_card
from llm_endpoint.errors import UnknownModel, WeightsMissing


@pytest.fixture
def settings(tmp_path, monkeypatch, weights_dir):
    """A model of a folder beside one of the catalogue, the same weights."""
    folder = tmp_path / "mine"
    shutil.copytree(weights_dir / "all-minilm-l6-v2-int8", folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "headrace.yaml").write_text(
        "models:\n"
        f"  mine: {{task: embedding, engine: onnx, weights: {folder}}}\n"
        "  known: {task: embedding, engine: onnx, weights: all-minilm-l6-v2-int8}\n"
        "indexes: {}\nchains: {}\nprincipal: {tenant: t, groups: []}\n"
    )
    monkeypatch.setenv("HEADRACE_CONFIG", str(tmp_path / "headrace.yaml"))
    monkeypatch.setenv("HEADRACE_WEIGHTS_DIR", str(weights_dir))
    return load_settings()


def test_a_folder_serves_like_the_catalogue_and_is_told_apart_by_its_hash(settings):
    mine = assembly.build_embedder(settings, "mine")
    known = assembly.build_embedder(settings, "known")
    texts = ["a csv file"]
    np.testing.assert_array_equal(mine.embed_passages(texts), known.embed_passages(texts))
    assert (mine.info.id, known.info.id) == ("mine", "all-minilm-l6-v2-int8")
    assert mine.info.weights_sha256 == find_card("all-minilm-l6-v2-int8").weights_sha256
    mine.close()
    known.close()


def test_a_folder_without_weights_and_a_name_nobody_knows_are_refused(settings, tmp_path):
    with pytest.raises(WeightsMissing, match=r"put a \*\.onnx into that folder"):
        weights_of(settings, str(tmp_path / "empty"), "*.onnx")
    with pytest.raises(UnknownModel, match="no model named 'nobody'"):
        weights_of(settings, "nobody", "*.onnx")
