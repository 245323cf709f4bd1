"""The HTTP edge: wire formats, limits, streaming, errors."""

from gateway.app import Backend, create_app
from gateway.wire import DriftForm, IndexForm, LagForm, ProofForm, SyncForm, VersionForm

__all__ = [
    "Backend",
    "DriftForm",
    "IndexForm",
    "LagForm",
    "ProofForm",
    "SyncForm",
    "VersionForm",
    "create_app",
]
