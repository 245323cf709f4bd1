"""`headrace features`."""

import dataclasses
import json as json_module
from datetime import UTC, datetime, timedelta

from feature_store.feast_store import FeastFeatures, apply, materialize
from headrace import assembly
from headrace.cli.progress import working
from headrace.settings import load_settings


def run_apply(as_json: bool) -> None:
    """Applies the Feast repository and prints what Feast says."""
    section = assembly.features_section(load_settings())
    with working("feast apply"):
        said = apply(section.repo)
    print(json_module.dumps({"feast": said.splitlines()}) if as_json else said)


def run_materialize(days: int, as_json: bool) -> None:
    """Loads rows of the last `days` days into the online store."""
    now = datetime.now(UTC)
    section = assembly.features_section(load_settings())
    with working("feast materialize"):
        materialize(section.repo, now - timedelta(days=days), now)
    if as_json:
        print(json_module.dumps({"days": days, "until": now.isoformat()}))
        return
    print(f"online features hold the newest rows of the last {days} days")


def run_get(view: str, key: str, as_json: bool) -> None:
    """Prints one key's features with their ages."""
    section = assembly.features_section(load_settings())
    (row,) = FeastFeatures(section.repo, section.service).read(view, [key])
    if as_json:
        form = {name: dataclasses.asdict(feature) for name, feature in row.items()}
        print(json_module.dumps(form, default=str))
        return
    for name, feature in row.items():
        state = "stale" if feature.is_stale else "fresh"
        age = f"{feature.age_s:.0f} s old, {state}" if feature.age_s is not None else "unknown key"
        print(f"{name:20} {feature.value!s:30} {age}")
