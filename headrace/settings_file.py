"""The file behind the settings: where it is, its YAML, and `${ENV}` in its values."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator

_PREFIX = "HEADRACE_"
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class InvalidSettings(Exception):
    """One line: the key, its value, and what is allowed."""


def config_file() -> Path:
    """$HEADRACE_CONFIG, or headrace.yaml in the working folder."""
    return Path(os.environ.get("HEADRACE_CONFIG", "headrace.yaml"))


def beside_the_file(path: Path) -> Path:
    """The path itself where it is absolute, else below the settings file's folder."""
    return config_file().parent / path


ConfigPath = Annotated[Path, AfterValidator(beside_the_file)]
"""A path as headrace.yaml has it: relative ones are relative to that file's folder."""


def read_config(path: Path) -> dict[str, object]:
    """The file's content with every `${NAME}` in a string replaced by that variable's value.

    Raises InvalidSettings naming what is missing or not YAML.
    """
    if not path.is_file():
        raise InvalidSettings(f"no settings file at {path}; set HEADRACE_CONFIG or create it")
    try:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise InvalidSettings(f"{path}: not valid YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(form, dict):
        raise InvalidSettings(f"{path}: settings are a mapping of sections, got {form!r}")
    return {key: _expanded(value, f"{path}: {key}") for key, value in form.items()}


def check_environment(sections: Iterable[str]) -> None:
    """Raises InvalidSettings for an override (`HEADRACE_SECTION__KEY`) of no known section."""
    known = set(sections)
    for name in os.environ:
        if name.upper().startswith(_PREFIX) and "__" in name:
            section = name[len(_PREFIX) :].split("__")[0].lower()
            if section not in known:
                raise InvalidSettings(
                    f"environment variable {name} overrides {section!r}, which is no section; "
                    f"allowed: {', '.join(sorted(known))}"
                )


def _expanded(value: object, key: str) -> object:
    if isinstance(value, dict):
        return {inner: _expanded(held, f"{key}.{inner}") for inner, held in value.items()}
    if isinstance(value, list):
        return [_expanded(held, f"{key}.{number}") for number, held in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise InvalidSettings(f"{key}: environment variable {name!r} is not set")
        return os.environ[name]

    return _VARIABLE.sub(replace, value)
