"""Is it answering? The only question that counts: an exit code or a pid proves nothing."""

from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit


def is_healthy(address: str, path: str, *, timeout_s: float = 2.0) -> bool:
    """True if GET `path` at `address` (http://host:port) answers 200 in time."""
    parts = urlsplit(address)
    # http.client ignores proxy variables, which a loopback probe must.
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
