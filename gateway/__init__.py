"""The HTTP edge: wire formats, limits, streaming, errors."""

from gateway.app import Backend, create_app

__all__ = ["Backend", "create_app"]
