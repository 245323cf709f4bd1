"""What a server says of an index at `GET /indexes/{name}`."""

import dataclasses

from gateway import DriftForm, IndexForm, LagForm, ProofForm, SyncForm, VersionForm
from headrace.drift_records import last_drift
from headrace.follower import FollowedIndex
from headrace.scheduled_proof import ScheduledProof
from headrace.settings import Settings
from headrace.watching import LastWord, last_word
from pipelines.watch import SyncState, Watcher


def index_form(
    settings: Settings,
    name: str,
    follower: FollowedIndex,
    *,
    watcher: Watcher | None = None,
    proof: ScheduledProof | None = None,
) -> IndexForm:
    """The index's version, lag, pending rows, syncs, proof and drift; may read the table's feed.

    watcher, proof: of this server; without a watcher, another process may have left word.
    """
    problem, lag = follower.problem(), follower.lag
    documents, passages = (0, 0) if problem else follower.index.count()
    drift = last_drift(settings, name)
    return IndexForm(
        name=name,
        documents=documents,
        passages=passages,
        version=None if problem else VersionForm.of(follower.index.version()),
        lag=None if lag is None else LagForm(versions=lag.versions, seconds=lag.seconds),
        problem=problem,
        sync=_sync_form(last_word(settings, name) if watcher is None else watcher.state()),
        proof=_proof_form(proof),
        pending_rows=follower.pending_rows(),
        drift=None if drift is None else DriftForm(**dataclasses.asdict(drift)),
    )


def _sync_form(state: SyncState | LastWord | None) -> SyncForm | None:
    if state is None:
        return None
    return SyncForm(
        phase=state.phase,
        pending_rows=state.pending_rows,
        failures=state.failures,
        last_error=state.last_error,
        last_error_at=state.last_error_at,
        rows_per_s=state.rows_per_s,
        duration_s=state.duration_s,
    )


def _proof_form(proof: ScheduledProof | None) -> ProofForm | None:
    if proof is None or proof.last is None:
        return None
    last = proof.last
    return ProofForm(
        at=last.at,
        is_equal=last.is_equal,
        missing=last.missing,
        extra=last.extra,
        changed=last.changed,
    )
