"""`headrace index history|rollback|verify`."""

import json as json_module
from pathlib import Path

from headrace import assembly
from headrace.settings import load_settings
from vector_index.manifest import Manifest
from vector_index.operations import history, rollback, verify


def run_history(name: str, as_json: bool) -> None:
    """Prints a line a generation, or a JSON array."""
    settings = load_settings()
    assembly.index_section(settings, name)
    live = assembly.published_manifest(settings, name).generation
    manifests = history(assembly.index_home(settings, name))
    forms = [_form(manifest, live) for manifest in manifests]
    if as_json:
        print(json_module.dumps(forms))
        return
    for form in forms:
        mark = "live" if form["live"] else "kept"
        print(f"{form['number']:>6}  {mark}  table version {form['table_version']}, "
              f"{form['documents']} documents, {form['created_at']}")  # fmt: skip


def run_rollback(name: str, number: int, as_json: bool) -> None:
    """Goes back, and says to what."""
    manifest = rollback(_home(name), number)
    if as_json:
        print(json_module.dumps(_form(manifest, manifest.generation)))
        return
    print(f"{name}: generation {manifest.generation} is live; the next sync starts from it")


def run_verify(name: str, as_json: bool) -> None:
    """Prints what was found right; what is not ends the command with its name."""
    manifests = verify(_home(name))
    files = sum(len(manifest.files) for manifest in manifests)
    if as_json:
        print(json_module.dumps({"generations": len(manifests), "files": files}))
    else:
        print(f"{name}: {files} files of {len(manifests)} generations have their SHA-256")


def _home(name: str) -> Path:
    settings = load_settings()
    assembly.index_section(settings, name)
    assembly.published_manifest(settings, name)
    return assembly.index_home(settings, name)


def _form(manifest: Manifest, live: str) -> dict[str, object]:
    return {
        "number": manifest.number,
        "generation": manifest.generation,
        "live": manifest.generation == live,
        "table_version": manifest.source.version,
        "documents": manifest.documents,
        "passages": manifest.passages,
        "created_at": manifest.created_at.isoformat(),
    }
