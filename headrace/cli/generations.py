"""`headrace index history|rollback|purge|verify`."""

import json as json_module
from dataclasses import asdict

from headrace import indexes
from headrace.quarantines import quarantine_of
from headrace.settings import load_settings
from pipelines.sources.scratch import sweep
from vector_index.history import Kept, history, rollback
from vector_index.manifest import Manifest
from vector_index.purging import purge
from vector_index.verify import verify


def run_history(name: str, as_json: bool) -> None:
    """Prints a line a generation, or a JSON array."""
    kept = history(indexes.published_home(load_settings(), name))
    if as_json:
        print(json_module.dumps([_form(one) for one in kept]))
        return
    for one in kept:
        mark = "live" if one.is_live else "kept"
        if one.manifest is None:
            print(f"{one.generation}  {mark}  damaged: {one.problem}")
            continue
        manifest = one.manifest
        print(f"{manifest.number:>6}  {mark}  table version {manifest.source.version}, "
              f"{manifest.documents} documents, {manifest.created_at.isoformat()}, "
              f"by {manifest.settings.embedder.id} of {_cut(manifest)}")  # fmt: skip


def run_rollback(name: str, number: int, as_json: bool) -> None:
    """Goes back, and says to what."""
    manifest = rollback(indexes.published_home(load_settings(), name), number)
    if as_json:
        print(json_module.dumps(_form(Kept(manifest.generation, True, manifest))))
        return
    print(f"{name}: generation {manifest.generation} is live; the next sync starts from it")


def run_purge(name: str, as_json: bool) -> None:
    """Leaves on the disk what is live and what is open in quarantine, and says what is live."""
    settings = load_settings()
    live = purge(indexes.published_home(settings, name))
    if (scratch := settings.state_dir / "scratch").is_dir():
        sweep(scratch)
    quarantine = quarantine_of(settings, name)
    if held := quarantine.held():
        rows = indexes.build_source(settings, name).snapshot().hashes()
        quarantine.resolve(held.keys() - rows.keys())
    quarantine.clean()
    if as_json:
        print(json_module.dumps(_form(Kept(live.generation, True, live))))
        return
    print(f"{name}: generation {live.generation} is all that is left, with {live.documents} "
          f"documents; rows in quarantine: {len(quarantine.held())}")  # fmt: skip


def run_verify(name: str, as_json: bool) -> None:
    """Prints what was found right; what is not ends the command with its name."""
    report = verify(indexes.published_home(load_settings(), name))
    if as_json:
        print(json_module.dumps(asdict(report)))
        return
    print(f"{name}: {report.files} files of {report.generations} generations have their SHA-256")
    for probe in report.segments:
        print(f"  segment {probe.segment}, {probe.kind}: recall@10 {probe.recall:.3f} "
              f"of {probe.probes} stored vectors searched for")  # fmt: skip


def _form(kept: Kept) -> dict[str, object]:
    form: dict[str, object] = {"generation": kept.generation, "live": kept.is_live}
    if kept.manifest is None:
        return {**form, "damaged": kept.problem}
    return {
        "number": kept.manifest.number,
        **form,
        "table_version": kept.manifest.source.version,
        "documents": kept.manifest.documents,
        "passages": kept.manifest.passages,
        "created_at": kept.manifest.created_at.isoformat(),
        "table_id": kept.manifest.source.table_id,
        "schema_fingerprint": kept.manifest.source.schema_fingerprint,
        "embedder": asdict(kept.manifest.settings.embedder),
        "chunking": dict(kept.manifest.settings.chunking),
    }


def _cut(manifest: Manifest) -> str:
    chunking = manifest.settings.chunking
    return ", ".join(f"{key} {value}" for key, value in chunking.items()) or "whole texts"
