"""The real gateway on a real socket, and both clients behind one blocking face."""

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import uvicorn

from feature_store.memory import InMemoryFeatures, View
from gateway import (
    Backend,
    DriftForm,
    IndexForm,
    LagForm,
    ProofForm,
    SyncForm,
    VersionForm,
    create_app,
)
from headrace_client import AsyncHeadraceClient, HeadraceClient
from llm_endpoint.embedding import HashingEmbedder
from llm_endpoint.generation import Fault, ScriptedGenerator
from rag_chain.chain import Chain, ChainLimits
from rag_chain.enrichment import FeatureSource, FeatureUse
from rag_chain.retrieval import Retriever
from vector_index.manifest import IndexSettings
from vector_index.memory import InMemoryIndex
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    IndexDelta,
    Lag,
    Passage,
    SourceVersion,
    passages_to_table,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
KINDS = {"csv": "module", "json": "module", "open": "function"}
TEXTS = {
    "csv": "the csv module reads tabular data",
    "json": "the json module reads nested data",
    "open": "the open function reads a file",
}
REPLY = "The csv module reads tabular data [1]. See also [9]."
# Longer than any test, cut short by every one: 20 ms a word.
LONG_REPLY = "word " * 10_000


class WatchedGenerator(ScriptedGenerator):
    """Tells when an answer that it was writing was left or finished."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, context_tokens=20_000, **options)
        self.ended = threading.Event()

    async def stream(self, request):
        try:
            async for delta in super().stream(request):
                yield delta
        finally:
            self.ended.set()


class World:
    """What is served: chain `docs` answers, the others go wrong as their names say.

    problems: what /readyz reports. url: where, once it is served.
    """

    def __init__(self):
        self.url, self.problems = "", {}
        self.generators = {
            "docs": WatchedGenerator([REPLY]),
            "second": WatchedGenerator([REPLY]),
            "hangs": WatchedGenerator([Fault("hang", "one two")]),
            "dies": WatchedGenerator([Fault("die", "one two")]),
            "dies_at_once": WatchedGenerator([Fault("die"), REPLY]),
            "drips": WatchedGenerator([LONG_REPLY], delay_s=0.02),
        }

    def app(self):
        retriever = Retriever(*_index())
        chains = {
            name: Chain(
                retriever, generator, name=name, limits=ChainLimits(answer_tokens=10_000),
                features=_features(), lag=lambda: Lag(2, 5.0),
            )
            for name, generator in self.generators.items()
        }  # fmt: skip
        backend = Backend(
            chains, {"docs": retriever, "new": retriever}, Access("acme", frozenset()),
            lambda: self.problems, index=_index_form,
        )  # fmt: skip
        return create_app(backend, max_body_bytes=100_000, max_in_flight=16)


def _index_form(name):
    """`docs` has all there can be, any other nothing yet."""
    if name != "docs":
        return IndexForm(
            name=name, documents=0, passages=0, version=None, lag=None, problem="not published",
            sync=None,
        )  # fmt: skip
    return IndexForm(
        name=name, documents=3, passages=4, problem=None, pending_rows=9,
        version=VersionForm(
            index=name, generation="3-t-v7", created_at=NOW, table_id="t", table_version=7
        ),
        lag=LagForm(versions=2, seconds=5.0),
        sync=SyncForm(
            phase="failing", pending_rows=1, failures=2, last_error="no table", last_error_at=NOW,
            rows_per_s=12.5, duration_s=0.5,
        ),
        proof=ProofForm(at=NOW, is_equal=False, missing=1, extra=2, changed=3),
        drift=DriftForm(
            generation="3-t-v7", vectors=4, mean_cosine=0.5, spread=0.25, index_spread=None,
            near_zero_share=0.0,
        ),
    )  # fmt: skip


class Refusing:
    """The app behind a gate that answers the first `times` requests itself, as a full or a
    starting server, a proxy or a stranger does.

    is_cut: the connection breaks after `body`. seen, ports, paths, sent: how many requests
    came, over which connections, for what, with which headers.
    """

    def __init__(self, app, *, status=503, times=0, headers=(), body=b"", is_cut=False):
        self.app, self.status, self.times, self.body = app, status, times, body
        self.headers, self.is_cut = list(headers), is_cut
        self.seen, self.ports, self.paths, self.sent = 0, set(), [], []

    async def __call__(self, scope, receive, send):
        self.seen += 1
        self.ports.add(scope["client"][1])
        self.paths.append(scope["raw_path"])
        self.sent.append(dict(scope["headers"]))
        if self.seen > self.times:
            return await self.app(scope, receive, send)
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        body = {"type": "http.response.body", "body": self.body, "more_body": self.is_cut}
        await send(body)
        if self.is_cut:
            raise ConnectionAbortedError("the fixture breaks the connection here")


@contextmanager
def listening(app, listener):
    """Serves the app on a bound socket until the block ends, whatever is still in flight."""
    config = uvicorn.Config(app, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        yield
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@contextmanager
def bound_socket():
    """A socket with a port of its own."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def url_of(listener):
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


class Sync:
    """HeadraceClient."""

    def __init__(self, *arguments, **options):
        self.client = HeadraceClient(*arguments, **options)
        for name in ("query", "search", "indexes", "index", "health", "is_ready", "close"):
            setattr(self, name, getattr(self.client, name))

    def stream(self, *arguments, **options):
        with self.client.stream(*arguments, **options) as events:
            yield from events


class Async:
    """AsyncHeadraceClient, each await a task of its own, as a framework may have it."""

    def __init__(self, *arguments, **options):
        self.runner = asyncio.Runner()
        self.client = AsyncHeadraceClient(*arguments, **options)
        for name in ("query", "search", "indexes", "index", "health", "is_ready"):
            setattr(self, name, self._blocking(getattr(self.client, name)))

    def _blocking(self, method):
        return lambda *arguments, **options: self.runner.run(method(*arguments, **options))

    def stream(self, *arguments, **options):
        events = self.client.stream(*arguments, **options)
        try:
            while True:
                yield self.runner.run(events.__anext__())
        except StopAsyncIteration:
            return
        finally:
            self.runner.run(events.aclose())

    def close(self):
        self.runner.run(self.client.aclose())
        self.runner.close()


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def connect(request):
    """Builds the client under test; all are closed at the end."""
    opened = []

    def connect(*arguments, **options):
        opened.append(request.param(*arguments, **options))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


@pytest.fixture(scope="module")
def served():
    """A world that many tests ask."""
    world = World()
    with bound_socket() as listener, listening(world.app(), listener):
        world.url = url_of(listener)
        yield world


@pytest.fixture
def headrace(served, connect):
    """A client of the served world."""
    served.problems.clear()
    for generator in served.generators.values():
        generator.ended.clear()
    return connect(served.url)


@pytest.fixture
def listener():
    """A socket on which nobody listens yet: connecting is refused."""
    with bound_socket() as bound:
        yield bound


@pytest.fixture
def url(listener):
    return url_of(listener)


@pytest.fixture
def answer_form():
    """An answer as it goes over the wire."""
    return json.loads((Path(__file__).parent / "answer.json").read_text())


@pytest.fixture
def refusing(listener):
    """Serves a world behind a gate; see Refusing."""

    @contextmanager
    def refusing(**options):
        gate = Refusing(World().app(), **options)
        with listening(gate, listener):
            yield gate

    return refusing


@pytest.fixture
def late(listener):
    """Has a world served after `seconds`, until the test ends."""
    stop = threading.Event()
    threads = []

    def serve(seconds):
        time.sleep(seconds)
        with listening(World().app(), listener):
            stop.wait()

    def late(seconds):
        threads.append(threading.Thread(target=serve, args=[seconds]))
        threads[-1].start()

    yield late
    stop.set()
    for thread in threads:
        thread.join()


def _index():
    embedder = HashingEmbedder(256)
    info = embedder.info
    identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
    columns = {"kind": "string"}
    index = InMemoryIndex(IndexSettings("docs", "exact", identity, {}, columns, False, False))
    documents = pa.table([list(TEXTS), list(TEXTS)], schema=DOCUMENT_SCHEMA)
    passages = [
        Passage(key, 0, key.upper(), text, 0, len(text), key, metadata={"kind": KINDS[key]})
        for key, text in TEXTS.items()
    ]
    vectors = embedder.embed_passages(list(TEXTS.values()))
    delta = IndexDelta(documents, passages_to_table(passages, columns), vectors, frozenset())
    index.publish(delta, SourceVersion("table-1", 7, "fp", NOW))
    return index, embedder


def _features():
    views = {
        "user": View(("tone", "modules"), {"ada": (NOW, {"tone": "terse", "modules": ("csv",)})}),
        "stats": View(("views",), {"csv": (NOW, {"views": 9})}),
    }
    use = FeatureUse("user", "stats", {"views": 0.01}, ("tone", "modules"), None)
    return FeatureSource(InMemoryFeatures(views, now=lambda: NOW), use)
