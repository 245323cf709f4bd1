"""How lineage events travel: from a queue, in a thread of their own, to a file or over HTTP.

A sync never waits for them and never fails by them: a full queue drops events, a server that is
away is named once in the log.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

_log = logging.getLogger(__name__)

Deliver = Callable[["RunEvent"], None]
"""Delivers one event, or raises whatever it likes."""


class LineageSender:
    """A `lineage.Sender` that delivers in the background, in order. End it with `close`.

    waiting: how many events may wait; more are dropped. close_s: what `close` waits for them.
    """

    def __init__(self, deliver: Deliver, *, waiting: int = 64, close_s: float = 5.0) -> None:
        self._deliver = deliver
        self._close_s = close_s
        self._waiting: queue.Queue[RunEvent | None] = queue.Queue(waiting)
        self._is_complaining = False
        self._dropped = 0
        # A daemon: a server that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="lineage", daemon=True)
        self._thread.start()

    def send(self, event: "RunEvent") -> None:
        """Puts the event in the queue, or drops it where the queue is full."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._dropped += 1
            self._complain("the queue is full")

    def close(self) -> None:
        """Waits up to `close_s` for what is in the queue; what is left then is dropped."""
        ends = time.monotonic() + self._close_s
        try:
            self._waiting.put(None, timeout=self._close_s)
        except queue.Full:
            self._dropped += self._waiting.qsize()
        else:
            self._thread.join(max(0.0, ends - time.monotonic()))
            self._dropped += max(0, self._waiting.qsize() - 1) if self._thread.is_alive() else 0
        if self._dropped:
            _log.warning("lineage_events_dropped count=%d", self._dropped)

    def __enter__(self) -> "LineageSender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._deliver(event)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the sync goes on
                self._dropped += 1
                self._complain(f"{type(exc).__name__}: {exc}")
            else:
                self._is_complaining = False

    def _complain(self, reason: str) -> None:
        """Once an outage."""
        if not self._is_complaining:
            self._is_complaining = True
            _log.warning("lineage_not_delivered reason=%s", reason)


def to_file(path: Path) -> Deliver:
    """Appends each event to the file as one line of JSON; several processes may."""

    def deliver(event: "RunEvent") -> None:
        from openlineage.client.serde import Serde

        path.parent.mkdir(parents=True, exist_ok=True)
        line = f"{Serde.to_json(event)}\n".encode()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)  # one write: lines of two processes do not mix
        finally:
            os.close(descriptor)

    return deliver


def to_http(url: str, *, timeout_s: float = 2.0, api_key: str | None = None) -> Deliver:
    """Posts each event to `<url>/api/v1/lineage`; anything but 2xx raises.

    timeout_s: to connect, and between two bytes of the answer. Raises ValueError for a URL that
    is none.
    """
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    auth = {} if api_key is None else {"auth": {"type": "api_key", "apiKey": api_key}}
    # The client's own five retries would hold up the events behind.
    form = {"url": url, "timeout": timeout_s, "retry": {"total": 0}, **auth}
    transport = HttpTransport(HttpConfig.from_dict(form))

    def deliver(event: "RunEvent") -> None:
        transport.emit(event)

    return deliver
