"""A bound on requests at once: full is 429 at once, never slow for everybody."""

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import envelope
from gateway.traffic import Traffic

_RETRY_AFTER_S = 1


class InFlightLimit:
    """ASGI middleware: a POST beside `most` others that are not done yet is answered 429.

    A stream is in flight until its last event. GETs (health, documents) are never refused.
    """

    def __init__(self, app: ASGIApp, most: int, traffic: Traffic) -> None:
        """traffic: where they are counted."""
        self._app = app
        self._most = most
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        if self._traffic.in_flight >= self._most:
            return await self._refuse(send)
        self._traffic.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            self._traffic.leave()

    async def _refuse(self, send: Send) -> None:
        message = f"{self._most} requests are in flight, which is the limit; try again soon"
        body = orjson.dumps(envelope(429, message, "overloaded"))
        headers = [
            (b"content-type", b"application/json"),
            (b"retry-after", str(_RETRY_AFTER_S).encode()),
        ]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})
