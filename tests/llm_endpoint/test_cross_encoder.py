"""Without the extra; what it computes is checked in tests/components."""

import sys
from pathlib import Path

import pytest

from llm_endpoint.errors import ExtraMissing
from llm_endpoint.rerank.cross_encoder import CrossEncoderReranker


@pytest.mark.parametrize("package", ["torch", "sentence_transformers"])
def test_a_missing_package_names_the_extra_that_has_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None makes the import fail, wherever the package is installed or not.
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExtraMissing, match=rf"{package} .*\[gpu\]") as refusal:
        CrossEncoderReranker(tmp_path, model="ce", device="cpu" if package != "torch" else None)
    assert (refusal.value.package, refusal.value.extra) == (package, "gpu")
