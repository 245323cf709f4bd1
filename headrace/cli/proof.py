"""`headrace index verify --table`."""

import json as json_module
from dataclasses import asdict

from headrace import assembly, indexes
from headrace.quarantines import quarantine_of
from headrace.settings import load_settings
from pipelines.errors import IndexDrifted
from pipelines.proof import Proof, prove
from pipelines.verify import DriftReport


def run_prove(name: str, repairs: bool, sample: int, as_json: bool) -> None:
    """Prints where the index differs from its table; a difference that stays ends the command."""
    settings = load_settings()
    embedder = assembly.build_embedder(settings, indexes.index_section(settings, name).embedder)
    proof = prove(
        indexes.build_source(settings, name),
        indexes.open_index(settings, name, embedder),
        embedder,
        indexes.build_chunker(settings, name, embedder),
        repairs=repairs,
        sample=sample,
        set_aside=quarantine_of(settings, name).held_as(),
    )
    if as_json:
        print(json_module.dumps({**asdict(proof), "is_equal": proof.is_equal}))
    else:
        _print(name, proof)
    if not proof.is_equal:
        fix = "run the sync, then report this" if repairs else "`--repair` applies them again"
        raise IndexDrifted(f"index {name!r} differs from its table; {fix}")


def _print(name: str, proof: Proof) -> None:
    _print_drift(name, proof.drift)
    least = "" if proof.least_cosine is None else f", lowest cosine {proof.least_cosine:.4f}"
    print(f"  {proof.documents_read} documents read, {proof.faulty} of them not as their rows; "
          f"{proof.vectors_compared} vectors embedded again{least}")  # fmt: skip
    for fault in proof.faults:
        print(f"  {fault.key}: {fault.problem}")
    if proof.repaired is not None:
        print("after the repair:")
        _print_drift(name, proof.repaired)


def _print_drift(name: str, drift: DriftReport) -> None:
    print(f"{name}: {drift.checked} documents compared with table version {drift.table_version}: "
          f"{drift.missing} missing, {drift.extra} too many, {drift.changed} changed, "
          f"{drift.pending} not synced yet, {drift.quarantined} in quarantine")  # fmt: skip
    for what in ("missing", "extra", "changed"):
        if keys := getattr(drift, f"{what}_examples"):
            print(f"  {what}: {', '.join(keys)}")
