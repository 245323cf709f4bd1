"""The client for plain programs. What it says and understands is in `wire`, when it repeats a
call in `retries`; here are only the waits."""

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Self

import httpx2

from headrace_client import wire
from headrace_client.errors import NOT_READY, HeadraceError
from headrace_client.results import Answer, Delta, Health, IndexState, SearchResult
from headrace_client.retries import Deadline, RetryPolicy, Tries
from headrace_client.settings import DEFAULT_TIMEOUT_S, resolve
from headrace_client.transport import LIMITS, RemainingTimeouts, cut_at, reply_of, translated
from headrace_client.wire import Call, EventReader, Reply


class AnswerStream(Iterator[Delta | Answer]):
    """Deltas, then the Answer. Leaving its `with` block early ends the work on the server.

    Nothing is sent before the first event is asked for.
    """

    def __init__(self, events: Generator[Delta | Answer, None, None]) -> None:
        self._events = events

    def __next__(self) -> Delta | Answer:
        return next(self._events)

    def close(self) -> None:
        """Closes the connection unless the stream is at its end. Calling it twice is fine."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HeadraceClient:
    """Asks one Headrace server. Threads may share it: connections are pooled and kept open."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: RetryPolicy = RetryPolicy(),
    ) -> None:
        """base_url, api_key: None takes HEADRACE_URL (else port 8080 of this machine) and
        HEADRACE_API_KEY. timeout_s: of a whole call, tries and pauses included; a host name's
        lookup is the one wait that it cannot end. Raises InvalidSetting.
        """
        self._settings = resolve(base_url, api_key, timeout_s, retries)
        self._http = httpx2.Client(
            base_url=self._settings.base_url,
            headers=self._settings.headers,
            limits=LIMITS,
            trust_env=not self._settings.is_loopback,
        )

    def query(
        self,
        question: str,
        *,
        chain: str | None = None,
        k: int | None = None,
        filter: Mapping[str, object] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """The answer, with its citations. None leaves a choice to the server.

        chain: which of the server's chains answers. k: passages in the prompt. filter: by
        metadata, `{"kind": ["class", "module"]}`. user: whose features word the answer.
        timeout_s: None takes the client's. Raises HeadraceError.
        """
        call = wire.query_call(
            question, chain=chain, k=k, filter=filter, user=user, is_streamed=False
        )
        return wire.decode_answer(self._send(call, timeout_s))

    def stream(
        self,
        question: str,
        *,
        chain: str | None = None,
        k: int | None = None,
        filter: Mapping[str, object] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
    ) -> AnswerStream:
        """As `query`, in Deltas while the model writes, then the Answer.

        timeout_s runs from the first event asked for to the last, the caller's own time between
        events included. Nothing is repeated once an event was delivered.
        """
        call = wire.query_call(
            question, chain=chain, k=k, filter=filter, user=user, is_streamed=True
        )
        return AnswerStream(self._stream(call, timeout_s))

    def search(
        self,
        text: str,
        *,
        index: str,
        query_type: str | None = None,
        k: int | None = None,
        filter: Mapping[str, object] | None = None,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """The k passages of an index that fit a text best, best first. Raises HeadraceError.

        query_type: `ann` (the server's default), `full_text` or `hybrid`.
        """
        call = wire.search_call(text, index=index, query_type=query_type, k=k, filter=filter)
        return wire.decode_search(self._send(call, timeout_s))

    def indexes(self, *, timeout_s: float | None = None) -> tuple[IndexState, ...]:
        """Every index of the server, in its order. Raises HeadraceError."""
        return wire.decode_indexes(self._send(wire.INDEXES, timeout_s))

    def index(self, name: str, *, timeout_s: float | None = None) -> IndexState:
        """One index: its version, lag, syncs and drift. Raises NotFound for an unknown one."""
        return wire.decode_index(self._send(wire.index_call(name), timeout_s))

    def health(self, *, timeout_s: float | None = None) -> Health:
        """Whether questions can be answered, asked once, and what is missing.

        Raises HeadraceError where no server says.
        """
        return wire.decode_health(self._try(wire.HEALTH, self._settings.deadline(timeout_s)))

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether questions can be answered now; false too where nothing answers in time.

        Raises what waiting does not mend: UnexpectedResponse, Unauthenticated, NotFound, ….
        """
        try:
            return self.health(timeout_s=timeout_s).is_ready
        except NOT_READY:
            return False

    def close(self) -> None:
        """Closes the connections. Calling it twice is fine."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.base_url!r})"

    def _send(self, call: Call, timeout_s: float | None) -> bytes:
        tries = self._settings.tries(timeout_s)
        while True:
            try:
                return wire.body_of(self._try(call, tries.deadline))
            except HeadraceError as exc:
                pause_s = tries.pause_after(exc)
            time.sleep(pause_s)

    def _stream(self, call: Call, timeout_s: float | None) -> Generator[Delta | Answer, None, None]:
        tries = self._settings.tries(timeout_s)
        while True:
            reader = EventReader()
            try:
                with contextlib.closing(self._events(call, tries)) as events:
                    for data in events:
                        if event := reader.read(data):
                            yield event
                reader.finish()
                return
            except HeadraceError as exc:
                if reader.is_answered:
                    return
                if reader.is_begun:
                    raise
                pause_s = tries.pause_after(exc)
            time.sleep(pause_s)

    def _events(self, call: Call, tries: Tries) -> Generator[str, None, None]:
        """The data of each event of one try."""
        deadline = tries.deadline
        with self._open(call, deadline) as response:
            if response.status_code != 200:
                wire.body_of(self._read(response, deadline))
            with translated(deadline, self._settings, is_begun=True):
                for event in httpx2.EventSource(response):
                    yield event.data

    def _try(self, call: Call, deadline: Deadline) -> Reply:
        with self._open(call, deadline) as response:
            return self._read(response, deadline)

    def _read(self, response: httpx2.Response, deadline: Deadline) -> Reply:
        with translated(deadline, self._settings, is_begun=True):
            response.read()
        return reply_of(response)

    @contextlib.contextmanager
    def _open(self, call: Call, deadline: Deadline) -> Iterator[httpx2.Response]:
        """A response whose body is still to come."""
        timeouts = RemainingTimeouts(deadline)
        request = self._http.build_request(
            call.method, call.path, content=call.body, extensions={"timeout": timeouts}
        )
        with translated(deadline, self._settings, is_begun=False):
            response = self._http.send(request, stream=True)
        with contextlib.closing(response), cut_at(deadline, response):
            yield response
