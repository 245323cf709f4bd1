"""The gateway on a real socket over a model that hangs: what is bounded, and what ends early."""

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx2
import pyarrow as pa
import pytest
import uvicorn

from gateway import Backend, IndexForm, create_app
from llm_endpoint.embedding import HashingEmbedder
from llm_endpoint.generation import Fault, ScriptedGenerator
from rag_chain.chain import Chain, ChainLimits
from rag_chain.retrieval import Retriever
from vector_index.manifest import IndexSettings
from vector_index.memory import InMemoryIndex
from vector_index.passages import (
    DOCUMENT_SCHEMA,
    Access,
    EmbedderIdentity,
    IndexDelta,
    Passage,
    SourceVersion,
    passages_to_table,
)

TEXT = "the csv module reads tabular data"
ASKED = {"question": "csv module tabular data"}


def backend(replies):
    embedder = HashingEmbedder()
    info = embedder.info
    identity = EmbedderIdentity(info.id, info.weights_sha256, info.dim)
    index = InMemoryIndex(IndexSettings("docs", "exact", identity, {}, {}, False, False))
    documents = pa.table([["csv"], ["h"]], schema=DOCUMENT_SCHEMA)
    passages = passages_to_table([Passage("csv", 0, "csv", TEXT, 0, len(TEXT), "h")], {})
    index.publish(
        IndexDelta(documents, passages, embedder.embed_passages([TEXT]), frozenset()),
        SourceVersion("t", 0, "fp", datetime(2026, 1, 1, tzinfo=UTC)),
    )
    retriever = Retriever(index, embedder)
    chain = Chain(retriever, ScriptedGenerator(replies), name="docs", limits=ChainLimits())
    return Backend(
        {"docs": chain}, {"docs": retriever}, Access("t", frozenset()), problems=dict, index=at
    )


def at(name):
    return IndexForm(
        name=name, documents=1, passages=1, version=None, lag=None, problem=None, sync=None
    )


@contextmanager
def served(replies, *, max_in_flight):
    app = create_app(backend(replies), max_body_bytes=10_000, max_in_flight=max_in_flight)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join()


def test_one_request_too_many_is_a_429_that_says_when_to_come_back():
    with served([Fault("hang", "a b")], max_in_flight=1) as http:
        with http.stream("POST", "/query", json={**ASKED, "stream": True}) as open_stream:
            # Held on to: a dropped iterator closes the connection.
            lines = open_stream.iter_lines()
            next(lines)
            refused = http.post("/indexes/docs/search", json={"text": "csv"})
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            error = refused.json()["error"]
            assert (error["code"], error["type"]) == ("overloaded", "invalid_request_error")
            assert "1 requests are in flight" in error["message"]
            assert http.get("/healthz").status_code == 200
        assert _accepted_again(http)


@pytest.mark.parametrize("form", [ASKED, {**ASKED, "stream": True}])
def test_what_a_client_that_left_had_asked_is_not_done_to_the_end(form):
    # The model hangs for 60 s: the only slot is free before that only if the work was cancelled.
    with served([Fault("hang", "a")], max_in_flight=1) as http:
        with (
            pytest.raises(httpx2.ReadTimeout),
            http.stream("POST", "/query", json=form, timeout=0.5) as left,
        ):
            for _ in left.iter_lines():
                pass
        assert _accepted_again(http)


def _accepted_again(http):
    """Whether a request is accepted within 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if http.post("/indexes/docs/search", json={"text": "csv"}).status_code == 200:
            return True
        time.sleep(0.02)
    return False
