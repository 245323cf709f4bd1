"""OpenAI's own client: files up, a batch through, its answers down, through restarts and faults."""

import asyncio
import io
import json
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import openai
import pytest
import uvicorn

from gateway import Backend, create_app
from gateway.openai.batch import BatchStore
from gateway.openai.batch_lines import Journal
from gateway.openai.batch_runner import BatchRunner
from gateway.openai.batch_work import BulkModels
from gateway.openai.file_store import FileStore
from gateway.openai.models import ServedModels
from gateway.traffic import Traffic
from llm_endpoint.errors import EngineBusy
from llm_endpoint.generation import ScriptedGenerator
from vector_index.passages import Access

CHAT = "/v1/chat/completions"
UPLOAD_BYTES = 1_000_000


class Model(ScriptedGenerator):
    """Says what it is told; without `go`, after the first `free` requests, it waits for it."""

    def __init__(self):
        super().__init__(lambda request: request.messages[-1].content)
        self.asked, self.at_once, self.most_at_once = [], 0, 0
        self.go = threading.Event()
        self.go.set()
        self.free = self.busy = 0

    async def ask(self, route, body, *, timeout_s):
        word = body["messages"][-1]["content"]
        self.asked.append(word)
        number = len(self.asked)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.busy:
                self.busy -= 1
                raise EngineBusy("m")
            while number > self.free and not self.go.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            return await super().ask(route, body, timeout_s=timeout_s)
        finally:
            self.at_once -= 1


class Bulky(Model):
    """As `Model`, with a place behind all others."""

    @property
    def bulk(self):
        return self


@dataclass
class World:
    folder: Path
    models: dict = field(default_factory=lambda: {"m": Model(), "b": Bulky()})
    window_s: int | None = None

    @contextmanager
    def server(self):
        """A client of a server over this folder, until the block ends."""
        models, traffic = ServedModels(generators=self.models), Traffic()
        runner = BatchRunner(
            FileStore(self.folder / "files"), BatchStore(self.folder / "batches"),
            BulkModels(models, traffic, concurrency=3), max_line_bytes=10_000,
        )  # fmt: skip

        @asynccontextmanager
        async def lifespan(app):
            async with runner:
                yield

        backend = Backend(
            {}, {}, Access("t", frozenset()), problems=dict, index=None, models=models,
            batches=runner, traffic=traffic,
        )  # fmt: skip
        app = create_app(
            backend, max_body_bytes=10_000, max_in_flight=64, max_upload_bytes=UPLOAD_BYTES,
            lifespan=lifespan,
        )  # fmt: skip
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            with openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=30
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def line(custom_id, word, **changes):
    body = {"model": "m", "messages": [{"role": "user", "content": word}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body} | changes


def upload(client, lines):
    content = "".join(json.dumps(one) + "\n" for one in lines).encode()
    return client.files.create(file=("asked.jsonl", io.BytesIO(content)), purpose="batch")


def start(client, lines, **options):
    file = upload(client, lines)
    asked = {"endpoint": CHAT, "completion_window": "24h", **options}
    return client.batches.create(input_file_id=file.id, **asked)


def wait(client, batch_id, until=("completed", "failed", "cancelled", "expired")):
    deadline = time.monotonic() + 30
    while (batch := client.batches.retrieve(batch_id)).status not in until:
        assert time.monotonic() < deadline, batch
        time.sleep(0.01)
    return batch


def lines_of(client, file_id):
    return [json.loads(one) for one in client.files.content(file_id).text.splitlines()]


def test_a_file_goes_up_is_listed_comes_down_the_same_and_is_deleted(world):
    with world.server() as client:
        content = b"".join(b"%d \xf0\x9f\x99\x82\r\n" % n for n in range(50_000))
        assert 10_000 < len(content) < UPLOAD_BYTES  # more than a body may have
        made = client.files.create(file=("näme.jsonl", content), purpose="batch")
        assert (made.object, made.bytes, made.filename) == ("file", len(content), "näme.jsonl")
        assert (made.purpose, made.status) == ("batch", "processed")
        assert client.files.retrieve(made.id) == made
        assert client.files.content(made.id).content == content
        second = upload(client, [line("a", "b")])
        assert {file.id for file in client.files.list(purpose="batch")} == {made.id, second.id}
        assert len(client.files.list(limit=1).data) == 1
        assert len(list(client.files.list(limit=1))) == 2  # the client pages by itself
        assert client.files.delete(made.id).deleted
        for ask in (client.files.retrieve, client.files.content, client.files.delete):
            for gone in (made.id, "file-../x", "none"):
                with pytest.raises(openai.NotFoundError):
                    ask(gone)
    assert [path.name for path in (world.folder / "files").iterdir()] == [second.id]


def test_an_upload_that_was_killed_is_cleared_at_the_next_start(world):
    draft = world.folder / "files" / ".draft-0"
    draft.mkdir(parents=True)
    (draft / "content").write_bytes(b"half")
    with world.server() as client:
        assert list(client.files.list()) == []
    assert not draft.exists()


def test_what_is_no_file_for_a_batch_is_refused_and_leaves_nothing_behind(world):
    with world.server() as client:
        with pytest.raises(openai.BadRequestError, match="'batch' only") as other:
            client.files.create(file=b"a", purpose="assistants")
        assert other.value.param == "purpose"
        large = b"a" * (UPLOAD_BYTES + 1)
        with pytest.raises(openai.APIStatusError, match="larger than 1000000 bytes") as too_large:
            client.files.create(file=large, purpose="batch")
        assert too_large.value.status_code == 413
        base = str(client.base_url)

        def endless():
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            for _ in range(200):
                yield b"a" * 10_000

        kind = {"content-type": "multipart/form-data; boundary=x"}
        unbounded = httpx2.post(f"{base}files", content=endless(), headers=kind)
        assert unbounded.status_code == 413
        for content in (b"--x\r\n", b"--x\r\nContent-Disposition: form-data; na", b"", b"?"):
            cut = httpx2.post(f"{base}files", content=content, headers=kind)
            assert (cut.status_code, cut.json()["error"]["param"]) == (400, "body"), content
        assert httpx2.post(f"{base}files", json={}).status_code == 400
        assert list(client.files.list()) == []
    assert list((world.folder / "files").iterdir()) == []


def test_a_batch_answers_every_line_once_with_errors_beside(world):
    lines = [line(f"row {n}", f"word {n}") for n in range(40)]
    lines[7]["body"]["max_tokens"] = "many"
    lines[8]["body"]["model"] = "gpt-9"
    with world.server() as client:
        made = start(client, lines, metadata={"of": "a test"})
        assert (made.object, made.status) == ("batch", "validating")
        batch = wait(client, made.id)
        assert batch.status == "completed", batch
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (40, 38, 2)
        assert (batch.metadata, batch.endpoint) == ({"of": "a test"}, CHAT)
        assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at
        assert batch.expires_at == batch.created_at + 24 * 3600
        made = {one["custom_id"]: one for one in lines_of(client, batch.output_file_id)}
        assert len(made) == 38
        response = made["row 3"]["response"]
        assert response["status_code"] == 200
        assert response["body"]["choices"][0]["message"]["content"] == "word 3"
        assert made["row 3"]["error"] is None
        wrong = {one["custom_id"]: one for one in lines_of(client, batch.error_file_id)}
        assert wrong.keys() == {"row 7", "row 8"}
        assert wrong["row 8"]["response"]["status_code"] == 404
        assert wrong["row 7"]["response"]["body"]["error"]["param"] == "max_tokens"
        assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
        assert [one.id for one in client.batches.list()] == [batch.id]
        with pytest.raises(openai.ConflictError, match="is completed and cannot be cancelled"):
            client.batches.cancel(batch.id)
    model = world.models["m"]
    assert sorted(model.asked) == sorted(f"word {n}" for n in range(40) if n not in (7, 8))
    assert 1 < model.most_at_once <= 3


def test_a_file_with_wrong_lines_is_not_begun_and_the_lines_are_listed(world):
    lines = [
        line("a", "x"), line("a", "y"), line("", "x"), line("b", "x", url="/v1/embeddings"),
        line("c", "x", method="GET"), line("d", "x", body=[]), [1], line("e", "w" * 20_000),
    ]  # fmt: skip
    with world.server() as client:
        batch = wait(client, start(client, lines).id)
        assert batch.status == "failed"
        assert [(error.line, error.code) for error in batch.errors.data] == [
            (2, "duplicate_custom_id"), (3, "invalid_custom_id"), (4, "mismatched_url"),
            (5, "invalid_method"), (6, "invalid_body"), (7, "invalid_json_line"),
            (8, "line_too_long"),
        ]  # fmt: skip
        assert "stands in line 1 already" in batch.errors.data[0].message
        empty = wait(client, start(client, []).id)
        assert [error.code for error in empty.errors.data] == ["empty_file"]
        for wrong, field_name in (
            ({"endpoint": "/v1/rerank"}, "endpoint"),
            ({"completion_window": "1h"}, "completion_window"),
            ({"metadata": {"a": "b" * 600}}, "metadata.a"),
            ({"extra_body": {"output_expires_after": {"seconds": 1}}}, "output_expires_after"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                start(client, [line("a", "b")], **wrong)
            assert refused.value.param == field_name
        with pytest.raises(openai.NotFoundError, match="there is no file 'file-1'"):
            client.batches.create(input_file_id="file-1", endpoint=CHAT, completion_window="24h")
        with pytest.raises(openai.NotFoundError, match="there is no batch"):
            client.batches.retrieve("batch_1")
    assert world.models["m"].asked == []


def test_a_batch_goes_on_after_a_restart_and_answers_no_line_twice(world):
    model = world.models["m"]
    model.free = 10
    model.go.clear()
    with world.server() as client:
        made = start(client, [line(f"row {n}", f"word {n}") for n in range(60)])
        until(lambda: model.at_once == 3)
        assert client.batches.retrieve(made.id).request_counts.completed == 10
    (folder,) = (world.folder / "batches").iterdir()
    with (folder / "output.jsonl").open("ab") as journal:
        journal.write(b'{"id": "batch_req_1", "custom_id": "row 59", "resp')  # a kill's half line
    model.go.set()
    with world.server() as client:
        batch = wait(client, made.id)
        assert (batch.status, batch.request_counts.completed) == ("completed", 60)
        got = [one["custom_id"] for one in lines_of(client, batch.output_file_id)]
        assert sorted(got) == sorted(f"row {n}" for n in range(60))
        assert batch.error_file_id is None
    assert len(model.asked) == 60 + 3  # those that were under way are asked again
    assert list(folder.glob("*.jsonl")) == []


def until(is_so):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_cancelled_batch_keeps_its_answers_and_says_of_the_rest_why(world):
    model = world.models["m"]
    with world.server() as client:
        file = upload(client, [line(f"row {n}", f"word {n}") for n in range(30)])
        model.go.clear()
        made = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        until(lambda: model.at_once == 3)
        with pytest.raises(openai.ConflictError, match=f"is read by {made.id}"):
            client.files.delete(file.id)
        assert client.batches.cancel(made.id).status == "cancelling"
        batch = wait(client, made.id)
        assert batch.status == "cancelled"
        assert model.at_once == 0
        assert batch.output_file_id is None
        left = lines_of(client, batch.error_file_id)
        assert sorted(one["custom_id"] for one in left) == sorted(f"row {n}" for n in range(30))
        assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
        assert client.files.delete(file.id).deleted


def test_when_its_time_is_over_a_batch_expires_with_what_it_has(world, monkeypatch):
    monkeypatch.setattr("gateway.openai.batch_runner.WINDOW_S", 1)
    model = world.models["m"]
    with world.server() as client:
        model.go.clear()
        batch = wait(client, start(client, [line("a", "x"), line("b", "y")]).id)
        assert (batch.status, batch.request_counts.failed) == ("expired", 2)
        left = lines_of(client, batch.error_file_id)
        assert {one["error"]["code"] for one in left} == {"batch_expired"}
    assert model.at_once == 0


def test_a_model_that_is_busy_is_asked_again(world):
    world.models["m"].busy = 2
    with world.server() as client:
        batch = wait(client, start(client, [line("a", "x")]).id)
        assert batch.request_counts.completed == 1
    assert world.models["m"].asked == ["x"] * 3


def test_lines_wait_while_somebody_is_waiting_unless_the_model_puts_them_behind(world, monkeypatch):
    monkeypatch.setattr("gateway.openai.batch_work._PATIENCE_S", 60)
    model, bulky = world.models["m"], world.models["b"]
    with world.server() as client:
        bulky.go.clear()
        behind = [line("a", "x")]
        behind[0]["body"]["model"] = "b"
        # A request of somebody who waits, that lasts.
        waiting = threading.Thread(
            target=client.chat.completions.create,
            kwargs={"model": "b", "messages": [{"role": "user", "content": "long"}]},
        )
        waiting.start()
        until(lambda: bulky.asked == ["long"])
        held = start(client, [line(f"row {n}", "y") for n in range(5)])
        through = start(client, behind)
        until(lambda: "x" in bulky.asked)
        assert model.asked == []
        bulky.go.set()
        waiting.join()
        assert wait(client, held.id).status == wait(client, through.id).status == "completed"


def test_a_journal_forgets_what_was_not_written_to_its_end(tmp_path):
    file = tmp_path / "output.jsonl"
    journal = Journal(file)
    journal.append("a", b'{"custom_id": "a"}\n')
    journal.close()
    for rest in (b'{"custom_id": "b"', b'{"custom_id": "b"}', b"\0\0\0\n", b"\n"):
        with file.open("ab") as out:
            out.write(rest)
        again = Journal(file)
        assert again.custom_ids == {"a"}
        again.close()
        assert file.read_bytes() == b'{"custom_id": "a"}\n'
