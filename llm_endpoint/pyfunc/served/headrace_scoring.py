"""MLflow's own scoring server over one model, for uvicorn, behind a key.

Runs in the model's environment, which has MLflow and need not have ours: nothing of ours is
imported. `/ping` and `/health` need no key, for the supervisor asks them.
"""

import hmac
import os
from collections.abc import Iterable
from typing import Any

from mlflow.pyfunc import scoring_server

_OPEN = ("/ping", "/health")
_key = os.environ.pop("HEADRACE_ENGINE_API_KEY").encode()
_scoring = scoring_server.init(
    scoring_server.load_model_with_mlflow_config(os.environ["HEADRACE_PYFUNC_FOLDER"])
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "http" and scope["path"] not in _OPEN and not _has_key(scope["headers"]):
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"the key is missing or wrong\n"})
        return
    await _scoring(scope, receive, send)


def _has_key(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    given = dict(headers).get(b"authorization", b"")
    return hmac.compare_digest(given, b"Bearer " + _key)
