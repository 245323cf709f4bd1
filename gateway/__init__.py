"""The HTTP edge: wire formats, limits, streaming, errors."""

from gateway.app import Backend, create_app
from gateway.errors import InvalidDocument
from gateway.wire import DriftForm, IndexForm, LagForm, ProofForm, SyncForm, VersionForm
from gateway.writing import DocumentForm, DocumentWriter

__all__ = [
    "Backend",
    "DocumentForm",
    "DocumentWriter",
    "DriftForm",
    "IndexForm",
    "InvalidDocument",
    "LagForm",
    "ProofForm",
    "SyncForm",
    "VersionForm",
    "create_app",
]
