"""Models of a hub, from a hub of this machine that serves two files as the real one does."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llm_endpoint import find_card, resolve
from llm_endpoint.errors import HubUnreachable, UnknownModel
from llm_endpoint.hub import HUB_MODELS, find_hub_card, pull_from_hub

COMMIT = "a" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"pickle"}


class Hub(BaseHTTPRequestHandler):
    """A repository's state and list below `/api/models/`, its files below `/resolve/`."""

    def do_GET(self):
        if "/tree/" in self.path:
            listed = [
                {"type": "file", "path": name, "size": len(body), "oid": "0" * 40}
                for name, body in FILES.items()
            ]
            return self._say(json.dumps(listed).encode(), "application/json")
        if self.path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in FILES]
            form = {"id": "x", "modelId": "x", "sha": COMMIT, "siblings": siblings}
            return self._say(json.dumps(form).encode(), "application/json")
        return self._say(FILES[self.path.rpartition("/")[2]], "application/octet-stream")

    do_HEAD = do_GET

    def _say(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_pulled_without_what_runs_code_when_read_and_its_hashes_are_noted(hub, tmp_path):
    card = find_hub_card("bge-small-en-v1.5")
    folder = pull_from_hub(card, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert not (folder / "pytorch_model.bin").exists()
    noted = json.loads((folder / "pulled.json").read_text())
    assert noted["repository"] == "BAAI/bge-small-en-v1.5"
    assert noted["sha256"]["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
    assert resolve("bge-small-en-v1.5", tmp_path).folder == folder


def test_where_no_hub_is_reachable_the_error_says_what_else_there_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match="bring its files yourself and name their folder"):
        pull_from_hub(find_hub_card("bge-m3"), tmp_path)
    with pytest.raises(UnknownModel):
        resolve("bge-m3", tmp_path / "elsewhere")


def test_names_are_not_taken_twice_and_every_card_says_what_it_needs():
    names = [card.name for card in HUB_MODELS]
    assert len(set(names)) == len(names)
    for card in HUB_MODELS:
        assert card.licence in ("MIT", "Apache-2.0")
        assert card.size_bytes > 10_000_000
        with pytest.raises(UnknownModel):
            find_card(card.name)
    quantised = {card.precision for card in HUB_MODELS} - {"float32", "bfloat16"}
    assert quantised == {"awq-int4", "fp8", "q4_k_m"}
