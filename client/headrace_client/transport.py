"""The border to httpx2: its errors become ours, and its waits end at the call's deadline."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

import httpx2

from headrace_client.errors import ConnectionLost, ServerUnreachable, UnexpectedResponse
from headrace_client.retries import Deadline
from headrace_client.settings import KEEPALIVE_S, Settings
from headrace_client.wire import Reply

# httpx2 takes 0 for "do not wait at all", which fails in other ways than by a timeout.
_SHORTEST_WAIT_S = 0.001
LIMITS = httpx2.Limits(
    max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEEPALIVE_S
)


class RemainingTimeouts(Mapping[str, float]):
    """httpx2's timeouts by kind, each what is left of the deadline when it is asked for.

    With fixed numbers connecting, sending and waiting could each take the whole time.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __getitem__(self, kind: str) -> float:
        return max(self._deadline.left_s, _SHORTEST_WAIT_S)

    def __iter__(self) -> Iterator[str]:
        return iter(("connect", "read", "write", "pool"))

    def __len__(self) -> int:
        return 4


@contextlib.contextmanager
def translated(deadline: Deadline, settings: Settings, *, is_begun: bool) -> Iterator[None]:
    """httpx2's errors as ours. is_begun: the server has begun to respond."""
    try:
        yield
    except (httpx2.TimeoutException, TimeoutError) as exc:
        raise deadline.exceeded() from exc
    except (httpx2.SSEError, httpx2.DecodingError) as exc:
        raise UnexpectedResponse(
            f"{settings.base_url} sent a response that cannot be read: {exc}; check base_url"
        ) from exc
    except httpx2.TransportError as exc:
        # cut_at ends a connection by closing it.
        if not deadline.left_s:
            raise deadline.exceeded() from exc
        reason = str(exc) or type(exc).__name__
        if is_begun:
            raise ConnectionLost(
                f"the connection to {settings.base_url} broke inside a response ({reason}); "
                "ask again"
            ) from exc
        raise ServerUnreachable(
            f"no response from {settings.base_url} ({reason}); "
            "does the server run, and is this its address?"
        ) from exc


@contextlib.contextmanager
def cut_at(deadline: Deadline, response: httpx2.Response) -> Iterator[None]:
    """Ends the response's connection when the deadline passes inside this block.

    A blocking read waits for its timeout from the start with every piece that comes, so a server
    that sends a little now and then would hold the caller for ever. Asyncio needs none of this.
    """
    connection = response.extensions["network_stream"].get_extra_info("socket")
    guard = threading.Lock()
    is_over = False

    def cut() -> None:
        with guard, contextlib.suppress(OSError):
            # Once the block is left, the connection may be serving another call.
            if not is_over:
                connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(deadline.left_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with guard:
            is_over = True


def reply_of(response: httpx2.Response) -> Reply:
    """A response whose body was read."""
    headers = response.headers
    return Reply(
        response.status_code, response.content, headers.get("retry-after"), headers.get("location")
    )
