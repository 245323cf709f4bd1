"""Events to a real file, and to a real HTTP server that also fails and hangs."""

import json
import logging
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest

from pipelines.embedding_drift import DriftGauges
from pipelines.lineage import IndexMade, SyncRun, TableRead, dataset_name
from pipelines.lineage_sender import LineageSender, to_file, to_http
from vector_index.manifest import IndexSettings
from vector_index.passages import EmbedderIdentity, IndexVersion, SourceVersion

MOMENT = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
SOURCE = SourceVersion("table-id", 7, "fingerprint", MOMENT)
READ = TableRead(
    "/tables/docs", SOURCE, pa.schema({"id": pa.string(), "tags": pa.list_(pa.string())}), rows=40
)
MADE = IndexMade(
    uri="/state/indexes/docs",
    version=IndexVersion("docs", "3-table-id-v7", 3, MOMENT, SOURCE),
    settings=IndexSettings(
        "docs", "flat", EmbedderIdentity("minilm", "beef", 384), {"max_tokens": 200}, {},
        has_tenant=False, has_groups=False,
    ),
    documents=40, passages=90, written=5, removed=2,
)  # fmt: skip


class Received:
    """What a lineage server got; `status` is what it answers, `hold` what it waits for first."""

    def __init__(self):
        self.requests, self.status = [], 201
        self.hold, self.arrived = threading.Event(), threading.Event()
        self.hold.set()


@contextmanager
def served(received):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((self.path, self.headers, json.loads(body)))
            received.arrived.set()
            received.hold.wait()
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            received.hold.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def received():
    return Received()


def in_file(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def synced(sender):
    run = SyncRun("docs", sender, namespace="prod")
    run.start()
    run.complete(READ, MADE)


def test_a_sync_is_a_start_and_a_complete_of_one_run(tmp_path):
    path = tmp_path / "lineage" / "events.jsonl"
    with LineageSender(to_file(path)) as sender:
        synced(sender)
        synced(sender)
    events = in_file(path)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"] * 2
    assert [event["job"]["name"] for event in events] == ["sync.docs"] * 4
    assert [event["job"]["namespace"] for event in events] == ["prod"] * 4
    runs = [event["run"]["runId"] for event in events]
    assert (runs[0], runs[2]) == (runs[1], runs[3])
    assert runs[0] != runs[2]


def test_a_complete_names_table_and_generation_with_what_they_are_made_of(tmp_path):
    path = tmp_path / "events.jsonl"
    with LineageSender(to_file(path)) as sender:
        synced(sender)
    (read,), (made,) = in_file(path)[1]["inputs"], in_file(path)[1]["outputs"]
    assert (read["namespace"], read["name"]) == ("file", "/tables/docs")
    assert (made["namespace"], made["name"]) == ("file", "/state/indexes/docs")
    assert read["facets"]["version"]["datasetVersion"] == "7"
    fields = [(f["name"], f["type"]) for f in read["facets"]["schema"]["fields"]]
    assert fields == [("id", "string"), ("tags", "list<item: string>")]
    assert read["facets"]["headrace_table"]["schemaFingerprint"] == "fingerprint"
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 40
    assert made["facets"]["version"]["datasetVersion"] == "3-table-id-v7"
    embedder, index = made["facets"]["headrace_embedder"], made["facets"]["headrace_index"]
    assert (embedder["id"], embedder["weightsSha256"], embedder["dim"]) == ("minilm", "beef", 384)
    assert made["facets"]["headrace_chunker"]["max_tokens"] == 200
    assert (index["documents"], index["passages"], index["removed"]) == (40, 90, 2)
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 5


def test_the_drift_of_the_vectors_is_told_where_there_is_a_number(tmp_path):
    path, nan = tmp_path / "events.jsonl", float("nan")
    with LineageSender(to_file(path)) as sender:
        for drift in (
            None,
            DriftGauges(5, 0.5, 0.25, 0.125, 0.0),
            DriftGauges(5, nan, 0.25, nan, 0),
        ):
            run = SyncRun("docs", sender)
            run.start()
            run.complete(READ, replace(MADE, drift=drift))
    events = [event for event in in_file(path) if event["eventType"] == "COMPLETE"]
    told = [event["outputs"][0]["facets"].get("headrace_drift") for event in events]
    assert told[0] is None
    numbers = ("vectors", "meanCosine", "spread", "indexSpread", "nearZeroShare")
    assert [told[1][name] for name in numbers] == [5, 0.5, 0.25, 0.125, 0.0]
    assert [name for name in numbers if name in told[2]] == ["vectors", "spread", "nearZeroShare"]


def test_every_facet_says_who_made_it_and_by_which_schema(tmp_path):
    path = tmp_path / "events.jsonl"
    with LineageSender(to_file(path)) as sender:
        synced(sender)
        SyncRun("docs", sender).fail(ValueError("x"))
    facets = [
        facet
        for event in in_file(path)
        for part in (event["run"], event["job"], *event["inputs"], *event["outputs"])
        for sort in ("facets", "inputFacets", "outputFacets")
        for facet in part.get(sort, {}).values()
    ]
    assert len(facets) == 3 + 4 + 5 + 1
    for facet in facets:
        assert facet["_producer"] == "urn:headrace"
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")


def test_a_sync_that_fails_says_why(tmp_path):
    path = tmp_path / "events.jsonl"
    with LineageSender(to_file(path)) as sender:
        run = SyncRun("docs", sender)
        run.start(READ)
        run.fail(ValueError("no such column"))
    start, fail = in_file(path)
    assert start["inputs"] == fail["inputs"]
    assert (fail["eventType"], fail["outputs"]) == ("FAIL", [])
    error = fail["run"]["facets"]["errorMessage"]
    assert (error["message"], error["programmingLanguage"]) == (
        "ValueError: no such column", "PYTHON",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("/tables/docs", ("file", "/tables/docs")),
        ("file:///tables/docs", ("file", "/tables/docs")),
        ("s3://bucket/a/b/", ("s3://bucket", "a/b")),
        ("https://user:secret@host:8443/a?sig=secret", ("https://host:8443", "a")),
    ],
)
def test_tables_are_named_as_the_specification_names_them_and_without_secrets(uri, named):
    assert dataset_name(uri) == named


def test_events_are_posted_in_order_with_the_key(received):
    with served(received) as url, LineageSender(to_http(url, api_key="k")) as sender:
        synced(sender)
        sender.close()
        (path, headers, start), (_, _, complete) = received.requests
    assert path == "/api/v1/lineage"
    assert headers["Authorization"] == "Bearer k"
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")


def test_a_server_that_fails_is_logged_once_an_outage_and_the_sync_goes_on(received, caplog):
    received.status = 500
    with served(received) as url, caplog.at_level(logging.WARNING):
        sender = LineageSender(to_http(url))
        for _ in range(3):
            synced(sender)
        sender.close()
    assert len(received.requests) == 6
    told = [record.getMessage() for record in caplog.records]
    assert len([one for one in told if one.startswith("lineage_not_delivered")]) == 1
    assert "500" in told[0]
    assert told[-1] == "lineage_events_dropped count=6"


def test_a_server_that_is_not_there_is_no_error_of_the_sync(caplog):
    with served(Received()) as url:
        pass
    with LineageSender(to_http(url)) as sender:
        synced(sender)
    assert "lineage_not_delivered" in caplog.text


def test_a_server_that_hangs_holds_up_neither_the_sync_nor_the_end_of_the_process(received, caplog):
    received.hold.clear()
    with served(received) as url:
        sender = LineageSender(to_http(url, timeout_s=600), waiting=2, close_s=0.05)
        synced(sender)
        assert received.arrived.wait(30)
        synced(sender)  # START hangs, COMPLETE waits: one of these two still fits
        synced(sender)
        sender.close()
        assert not received.hold.is_set()
        assert len(received.requests) == 1
    assert "lineage_not_delivered reason=the queue is full" in caplog.text
    assert "lineage_events_dropped count=5" in caplog.text


def test_a_file_that_cannot_be_written_is_no_error_of_the_sync(tmp_path, caplog):
    with LineageSender(to_file(tmp_path)) as sender:
        synced(sender)
    assert "lineage_not_delivered reason=IsADirectoryError" in caplog.text


def test_a_url_that_is_none_is_refused_at_once():
    with pytest.raises(ValueError, match="valid url"):
        to_http("not a url")


def test_an_event_that_cannot_be_made_is_no_error_of_the_sync(tmp_path, caplog):
    with LineageSender(to_file(tmp_path / "events.jsonl")) as sender:
        SyncRun("docs", sender).complete(None, MADE)
        SyncRun("docs", sender).complete(READ, "no generation")
    assert "lineage_event_not_made state=COMPLETE" in caplog.text
