"""Which folders a model may be loaded from: loading one runs whatever code lies in it."""

from collections.abc import Sequence
from pathlib import Path

from llm_endpoint.errors import ModelFolderRefused

_MANIFEST = "MLmodel"


def check_model_folder(folder: Path, allowed: Sequence[Path]) -> Path:
    """The folder itself, every link in its path resolved.

    allowed: the folders that models may lie below. Raises ModelFolderRefused for a folder that is
    not below any of them once links are resolved, or is no MLflow model.
    """
    try:
        real = folder.resolve(strict=True)
    except (OSError, RuntimeError) as exc:  # RuntimeError: links in a circle
        raise ModelFolderRefused(folder, "is not there") from exc
    if not any(real.is_relative_to(one.resolve()) for one in allowed):
        listed = ", ".join(map(str, allowed)) or "none"
        is_linked = real != folder.absolute()
        really = f"(really {real}) " if is_linked else ""
        raise ModelFolderRefused(folder, f"{really}is not below any of `pyfunc_folders` ({listed})")
    manifest = real / _MANIFEST
    if not manifest.is_file():
        raise ModelFolderRefused(folder, f"has no file {_MANIFEST}, so it is no MLflow model")
    if "python_function" not in manifest.read_text(encoding="utf-8", errors="replace"):
        raise ModelFolderRefused(folder, f"has no flavor python_function in its {_MANIFEST}")
    return real
