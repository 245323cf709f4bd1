"""Batches of `headrace serve` with the real small models, killed in between."""

import io
import json
import time

import openai

MODEL, EMBEDDER = "smollm2", "minilm"


def ask(client, url, bodies):
    lines = [
        json.dumps({"custom_id": f"row {n}", "method": "POST", "url": url, "body": body})
        for n, body in enumerate(bodies)
    ]
    file = client.files.create(file=io.BytesIO("\n".join(lines).encode()), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")
    return made.id


def wait(client, batch_id, is_so):
    deadline = time.monotonic() + 60
    while not is_so(batch := client.batches.retrieve(batch_id)):
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
    return batch


def bodies_of(client, batch):
    lines = [json.loads(one) for one in client.files.content(batch.output_file_id).iter_lines()]
    return {one["custom_id"]: one["response"]["body"] for one in lines}


def is_completed(batch):
    assert batch.status not in ("failed", "expired"), batch
    return batch.status == "completed"


def test_batches_outlive_a_killed_server_and_every_line_is_answered_once(serve):
    server = serve()
    url = f"http://127.0.0.1:{server.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", timeout=60, max_retries=0) as client:
        texts = [{"model": EMBEDDER, "input": f"text {n}"} for n in range(3)]
        vectors = wait(client, ask(client, "/v1/embeddings", texts), is_completed)
        made = bodies_of(client, vectors)
        assert {len(body["data"][0]["embedding"]) for body in made.values()} == {384}
        chats = [
            {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": f"Say {n}"}]}
            for n in range(30)
        ]
        batch = ask(client, "/v1/chat/completions", chats)
        wait(client, batch, lambda batch: batch.request_counts.completed >= 2)
        server.process.kill()
        server.process.wait(30)
    server.start()
    with openai.OpenAI(base_url=url, api_key="none", timeout=60, max_retries=0) as client:
        ended = wait(client, batch, is_completed)
        assert (ended.request_counts.total, ended.request_counts.completed) == (30, 30)
        made = bodies_of(client, ended)
        assert sorted(made) == sorted(f"row {n}" for n in range(30))
        assert all(body["choices"][0]["message"]["content"] for body in made.values())
        assert [one.id for one in client.batches.list()] == [batch, vectors.id]
