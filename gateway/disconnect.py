"""Work that ends when the client that asked for it is gone: uvicorn does not cancel it."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request

_T = TypeVar("_T")


class ClientGone(Exception):
    """The client closed its connection before the answer was there; nobody reads what follows."""


async def unless_gone(request: Request, work: Coroutine[None, None, _T]) -> _T:
    """The result of `work`, which is cancelled once the client has closed its connection.

    The request's body must have been read. Raises ClientGone, or what `work` raises.
    """
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientGone(f"{request.method} {request.scope['path']}: the client left")
    finally:
        for task in (doing, watching):
            task.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
