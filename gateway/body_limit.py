"""A bound on request bodies: neither uvicorn nor FastAPI has one."""

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import envelope


class BodyLimit:
    """ASGI middleware: a body over `max_bytes` is answered 413 and not kept in memory."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                return await self._refuse(send)
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                break
        waiting = iter(messages)

        async def replay() -> Message:
            return next(waiting, None) or await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, send: Send) -> None:
        message = f"the request body is larger than {self._max_bytes} bytes"
        body = orjson.dumps(envelope(413, message, "body_too_large"))
        # Closing spares us from reading the rest.
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
