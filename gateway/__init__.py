"""The HTTP edge: wire formats, limits, streaming, errors."""

from gateway.app import Backend, create_app
from gateway.wire import IndexForm, LagForm, ProofForm, SyncForm, VersionForm

__all__ = ["Backend", "IndexForm", "LagForm", "ProofForm", "SyncForm", "VersionForm", "create_app"]
