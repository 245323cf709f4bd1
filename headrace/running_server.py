"""What a command asks of the server that runs under the same headrace.yaml."""

import json
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

from headrace.settings import Settings

_TIMEOUT_S = 120.0


class ServerUnreachable(Exception):
    """No server answers where headrace.yaml says that it listens."""


class ServerRefused(Exception):
    """The server answered with an error; the message is the server's."""


def ask_server(settings: Settings, method: str, path: str) -> str:
    """The body of the answer. Raises ServerUnreachable, ServerRefused."""
    host, port = settings.gateway.host, settings.gateway.port
    # http.client ignores proxy variables, which a request to ourselves must.
    connection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, quote(path))
        response = connection.getresponse()
        body = response.read().decode()
    except (OSError, HTTPException) as exc:
        raise ServerUnreachable(
            f"no server answers at http://{host}:{port} ({exc}); start one with `headrace serve`"
        ) from exc
    finally:
        connection.close()
    if response.status >= 400:
        raise ServerRefused(_message(body))
    return body


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:300]
