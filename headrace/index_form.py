"""What a server says of an index at `GET /indexes/{name}`."""

from typing import TypeVar

from pydantic import BaseModel

from gateway import DriftForm, IndexForm, LagForm, ProofForm, SyncForm, VersionForm
from headrace.drift_records import last_drift
from headrace.follower import FollowedIndex
from headrace.scheduled_proof import ScheduledProof
from headrace.settings import Settings
from headrace.watching import last_word
from pipelines.watch import Watcher

_F = TypeVar("_F", bound=BaseModel)


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
    problem = follower.problem()
    documents, passages = (0, 0) if problem else follower.index.count()
    return IndexForm(
        name=name,
        documents=documents,
        passages=passages,
        version=None if problem else VersionForm.of(follower.index.version()),
        lag=_form(LagForm, follower.lag),
        problem=problem,
        sync=_form(SyncForm, last_word(settings, name) if watcher is None else watcher.state()),
        proof=_form(ProofForm, None if proof is None else proof.last),
        pending_rows=follower.pending_rows(),
        drift=_form(DriftForm, last_drift(settings, name)),
    )


def _form(kind: type[_F], known: object | None) -> _F | None:
    """The known values as they go over the wire; null where nothing is known."""
    return None if known is None else kind.model_validate(known, from_attributes=True)
