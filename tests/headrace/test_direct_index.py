"""An index without a table, written and searched over a real socket; the embedder is hashing."""

import json
import socket
import threading
import time
from contextlib import contextmanager

import httpx2
import pyarrow as pa
import pytest
import uvicorn
import yaml
from deltalake import write_deltalake

from headrace import assembly, indexes, serving
from headrace.cli.indexes import run_create, run_status
from headrace.doctor import examine
from headrace.serving import build_app
from headrace.settings import load_settings
from headrace.settings_file import InvalidSettings
from llm_endpoint.embedding.hashing import HashingEmbedder, HashingEncoder
from vector_index.errors import IndexBusy, SettingsMismatch

NOTES = {
    "source": "direct", "embedder": "embed", "metadata": {"kind": "string", "views": "int"},
    "tenant": True, "groups": True, "flush_every_s": 3600,
}  # fmt: skip


class Server:
    """Settings with a direct index beside one with a table, and a way to serve them."""

    def __init__(self, folder):
        self.folder = folder
        self.write()
        write_deltalake(str(folder / "table"), _rows())

    def write(self, **notes):
        form = {
            "models": {"embed": {"task": "embedding", "engine": "onnx", "weights": "w"}},
            "indexes": {
                "notes": {**NOTES, **notes},
                "docs": {
                    "source": {"path": "table"}, "embedder": "embed",
                    "key": "id", "title": "title", "text": "body",
                },
            },
            "chains": {},
            "principal": {"tenant": "acme", "groups": ["staff"]},
        }  # fmt: skip
        (self.folder / "headrace.yaml").write_text(yaml.safe_dump(form))
        self.settings = load_settings()

    @contextmanager
    def serving(self):
        app = build_app(self.settings)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                while not server.started:
                    assert thread.is_alive(), "the server did not start"
                    time.sleep(0.005)
                with httpx2.Client(base_url=url, timeout=60) as http:
                    yield http
            finally:
                server.should_exit = True
                thread.join()


def _rows():
    return pa.table({"id": ["1"], "title": ["t"], "body": ["a body"]})


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_CONFIG", str(tmp_path / "headrace.yaml"))
    for name in ("HEADRACE_WEIGHTS_DIR", "HEADRACE_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(assembly, "build_encoder", lambda settings, model: HashingEncoder(32))
    monkeypatch.setattr(serving, "plan_of", lambda settings: None)  # there are no weights to weigh
    return Server(tmp_path)


def note(key, text, **fields):
    return {"id": key, "text": text, "groups": ["staff"], **fields}


def search(http, text, **fields):
    form = {"text": text, "query_type": "full_text", **fields}
    found = http.post("/indexes/notes/search", json=form)
    assert found.status_code == 200, found.text
    return [hit["document_id"] for hit in found.json()["hits"]]


def test_documents_are_searchable_when_the_call_returns_and_gone_when_deleted(server):
    with server.serving() as http:
        documents = [
            note("a", "apples are red", metadata={"kind": "fruit", "views": 3}, title="Apples"),
            note("b", "bananas are yellow", tenant="acme", updated_at="2026-11-25T00:00:00Z"),
        ]
        written = http.post("/indexes/notes/upsert", json={"documents": documents})
        assert written.status_code == 200, written.text
        assert (written.json()["documents"], written.json()["version"]["index"]) == (2, "notes")
        assert (search(http, "apples"), search(http, "bananas")) == (["a"], ["b"])
        assert search(http, "are", filter={"kind": "fruit"}) == ["a"]
        assert http.get("/indexes/notes").json()["documents"] == 2
        again = {"documents": [note("a", "cherries are dark")]}
        http.post("/indexes/notes/upsert", json=again)
        assert (search(http, "apples"), search(http, "cherries")) == ([], ["a"])
        deleted = http.post("/indexes/notes/delete", json={"ids": ["a", "never there"]})
        assert deleted.json()["sequence"] > written.json()["sequence"]
        assert search(http, "cherries") == []


def test_given_vectors_are_taken_and_searched_by(server):
    embedder = HashingEmbedder(32)
    aim = embedder.embed_queries(["what is asked"])[0].tolist()
    with server.serving() as http:
        documents = [note("given", "other words", vector=aim), note("text", "some words")]
        assert http.post("/indexes/notes/upsert", json={"documents": documents}).status_code == 200
        form = {"text": "what is asked", "k": 1}
        (hit,) = http.post("/indexes/notes/search", json=form).json()["hits"]
        assert (hit["document_id"], hit["score"]) == ("given", pytest.approx(1.0, abs=1e-5))


def test_a_server_that_ends_leaves_everything_to_the_next_and_to_the_command_line(server, capsys):
    with server.serving() as http:
        http.post("/indexes/notes/upsert", json={"documents": [note("a", "apples are red")]})
        with pytest.raises(IndexBusy):
            build_app(server.settings)
    with server.serving() as http:
        assert search(http, "apples") == ["a"]
    run_status("notes", as_json=True)
    status = json.loads(capsys.readouterr().out)
    assert (status["index"], status["documents"]) == ("notes", 1)
    assert "lag_versions" not in status


def test_changes_are_flushed_for_other_processes_while_the_server_runs(server):
    server.write(flush_every_s=0.01)
    with server.serving() as http:
        http.post("/indexes/notes/upsert", json={"documents": [note("a", "apples")]})
        deadline = time.monotonic() + 60
        while indexes.published_state(server.settings, "notes")[1] != 1:
            assert time.monotonic() < deadline, "the change was never flushed"
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param", "words"),
    [
        ("docs/upsert", {"documents": [note("a", "t")]}, 409, "index_follows_table", "index",
         "'docs' follows a table"),
        ("docs/delete", {"ids": ["1"]}, 409, "index_follows_table", "index", "write to the table"),
        ("nope/upsert", {"documents": [note("a", "t")]}, 404, "index_not_found", "index", "'nope'"),
        ("notes/upsert", {"documents": []}, 422, "invalid_request", "documents", "at least 1"),
        ("notes/upsert", {"documents": [{"id": "a"}]}, 422, "invalid_request",
         "documents.0.text", "Field required"),
        ("notes/upsert", {"documents": [note("", "t")]}, 422, "invalid_request",
         "documents.0.id", "at least 1"),
        ("notes/upsert", {"documents": [note("a", "t", colour=1)]}, 422, "invalid_request",
         "documents.0.colour", "Extra"),
        ("notes/upsert", {"documents": [note("a", "t", tenant="other")]}, 400, "invalid_document",
         "tenant", "you may write for 'acme' only"),
        ("notes/upsert", {"documents": [{"id": "a", "text": "t"}]}, 400, "invalid_document",
         "groups", "needs groups"),
        ("notes/upsert", {"documents": [note("a", "t"), note("a", "t")]}, 400, "invalid_document",
         "id", "'a' stands twice"),
        ("notes/upsert", {"documents": [note("a", "t", metadata={"views": "3"})]}, 400,
         "invalid_document", "metadata.views", "a 64-bit int, it is '3'"),
        ("notes/upsert", {"documents": [note("a", "t", vector=[1, 2])]}, 400, "invalid_document",
         "vector", "must be 32 finite numbers"),
        ("notes/upsert", {"documents": [note("a", "t\ud800")]}, 400, "invalid_document", "text",
         "U+D800"),
        ("notes/delete", {"ids": []}, 422, "invalid_request", "ids", "at least 1"),
        ("notes/delete", {"ids": ["a\ud800"]}, 422, "invalid_request", "ids.0", "unicode"),
        ("notes/delete", {"ids": [3]}, 422, "invalid_request", "ids.0", "got 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_named_and_nothing_of_it_is(
    shared, path, body, status, code, param, words
):
    refused = shared.post(
        f"/indexes/{path}",
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    assert refused.status_code == status, refused.text
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert words in error["message"]
    assert shared.get("/indexes/notes").json()["documents"] == 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for all that is refused."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("direct")
        patch.setenv("HEADRACE_CONFIG", str(folder / "headrace.yaml"))
        for name in ("HEADRACE_WEIGHTS_DIR", "HEADRACE_STATE_DIR"):
            patch.delenv(name, raising=False)
        patch.setattr(assembly, "build_encoder", lambda settings, model: HashingEncoder(32))
        patch.setattr(serving, "plan_of", lambda settings: None)
        with Server(folder).serving() as http:
            yield http


def test_more_than_may_wait_in_memory_at_once_is_413(server):
    server.write(max_tokens=16)
    with server.serving() as http:
        text = " ".join(str(n) for n in range(16 * 5000))
        server_form = {"documents": [note("a", text)]}
        refused = http.post("/indexes/notes/upsert", json=server_form)
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "change_too_large"


def test_commands_for_tables_say_what_the_index_is_and_create_makes_it(server, capsys):
    run_create("notes", as_json=False)
    assert "notes: empty; `POST /indexes/notes/upsert`" in capsys.readouterr().out
    with pytest.raises(InvalidSettings, match=r"'notes' follows no table \(source: direct\)"):
        indexes.build_source(server.settings, "notes")
    found = {one.check: one for one in examine(server.settings)}
    assert "table of notes" not in found
    assert "table of docs" in found


def test_settings_of_an_index_that_is_written_to_are_checked(server):
    server.write(metadata={"text": "string"})
    with pytest.raises(InvalidSettings, match="no column can be called 'text'"):
        build_app(server.settings)
    with pytest.raises(InvalidSettings, match="unknown key 'key'"):
        server.write(key="id")
    with pytest.raises(InvalidSettings, match=r"indexes\.notes\.metadata\.kind: .*'text'"):
        server.write(metadata={"kind": "text"})
    server.write()
    run_create("notes", as_json=True)
    server.write(metadata={"kind": "int"})
    with pytest.raises(SettingsMismatch, match="metadata_columns"):
        build_app(server.settings)
