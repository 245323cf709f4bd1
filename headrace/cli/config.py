"""`headrace config`."""

import json as json_module

import yaml

from headrace.settings import load_settings


def run_show(as_json: bool) -> None:
    """Prints the settings in force: the file, its overrides and the defaults."""
    form = load_settings().model_dump(mode="json")
    print(json_module.dumps(form) if as_json else yaml.safe_dump(form, sort_keys=False).rstrip())
