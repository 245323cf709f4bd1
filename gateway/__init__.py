"""The HTTP edge: wire formats, limits, streaming, errors."""

from gateway.app import Backend, create_app
from gateway.wire import IndexForm, LagForm, SyncForm, VersionForm

__all__ = ["Backend", "IndexForm", "LagForm", "SyncForm", "VersionForm", "create_app"]
