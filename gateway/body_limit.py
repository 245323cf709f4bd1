"""A bound on request bodies: neither uvicorn nor FastAPI has one."""

from collections.abc import Mapping

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import envelope
from gateway.openai.errors import UploadTooLarge


class BodyLimit:
    """ASGI middleware: a body over `max_bytes` is answered 413 and not kept in memory.

    uploads: the paths of POSTs that read their body as it comes, with the bound of each.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, uploads: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["method"] == "POST" and scope["path"] in self._uploads:
            return await self._pass_on(scope, receive, send, self._uploads[scope["path"]])
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                return await _refuse(send, self._max_bytes)
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                break
        waiting = iter(messages)

        async def replay() -> Message:
            return next(waiting, None) or await receive()

        await self._app(scope, replay, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > most:
            return await _refuse(send, most)
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise UploadTooLarge(most)
            return message

        await self._app(scope, counted, send)


async def _refuse(send: Send, most: int) -> None:
    body = orjson.dumps(
        envelope(413, f"the request body is larger than {most} bytes", "body_too_large")
    )
    # Closing spares us from reading the rest.
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
