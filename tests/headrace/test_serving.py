"""`headrace serve` in a process of its own: a real socket, a real table, the real small models."""

import json
import shutil
import threading
import time

import httpx2
import pytest
from deltalake import DeltaTable

QUESTION = "Which module reads CSV tabular data?"


@pytest.fixture(scope="module")
def world(serve):
    return serve()


def test_a_question_over_http_is_answered_with_a_citation_and_its_provenance(world):
    response = world.ask()
    assert response.status_code == 200
    answer = response.json()
    assert answer["is_known"]
    assert "csv" in [citation["document_id"] for citation in answer["citations"]]
    assert answer["version"]["table_version"] == 0
    assert answer["lag"] == {"versions": 0, "seconds": 0.0}
    assert answer["usage"]["completion_tokens"] > 0
    assert set(answer["timings_s"]) == {"embed", "search", "features", "prompt", "generate"}
    assert (answer["chain"], answer["id"][:4]) == ("docs", "ans_")


def test_a_streamed_answer_comes_in_pieces_and_ends_with_the_whole_answer(world):
    *lines, end = world.stream()
    assert end == "[DONE]"
    *deltas, last = [json.loads(line) for line in lines]
    assert len(deltas) > 1
    assert {delta["type"] for delta in deltas} == {"delta"}
    assert last["type"] == "answer"
    assert last["answer"]["citations"]
    assert last["answer"]["usage"]["completion_tokens"] > 0


def test_without_generation_the_passages_and_the_prompt_come_back(world):
    prepared = world.ask(generate=False).json()
    assert prepared["passages"][0]["document_id"] == "csv"
    assert world.workspace.rows["csv"] in prepared["messages"][-1]["content"]
    assert set(prepared["timings_s"]) == {"embed", "search", "features", "prompt"}


def test_features_of_the_user_and_the_documents_are_named_with_their_age(world):
    prepared = world.ask(generate=False, user="ben").json()
    assert "beginner" in prepared["messages"][0]["content"]
    by_name = {(f["view"], f["key"], f["name"]): f for f in prepared["features"]}
    level = by_name["user_profile", "ben", "experience_level"]
    assert (level["value"], level["is_stale"]) == ("beginner", False)
    assert 0 < level["age_s"] < 3600
    assert by_name["document_stats", "csv", "views"]["value"] == 0
    assert "beginner" not in world.ask(generate=False).json()["messages"][0]["content"]


def test_a_search_honours_k_and_the_filter(world):
    found = world.http.post("/indexes/docs/search", json={"text": QUESTION, "k": 2}).json()
    assert found["hits"][0]["document_id"] == "csv"
    assert len(found["hits"]) == 2
    filtered = world.http.post(
        "/indexes/docs/search", json={"text": QUESTION, "filter": {"module": "json"}}
    ).json()
    assert [hit["document_id"] for hit in filtered["hits"]] == ["json"]


def test_a_search_by_words_finds_what_holds_them(world):
    form = {"text": "DictReader", "query_type": "full_text"}
    (hit,) = world.http.post("/indexes/docs/search", json=form).json()["hits"]
    assert (hit["document_id"], hit["text_score"]) == ("csv", hit["score"])
    assert -1 <= hit["vector_score"] <= 1


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/query", '{"question": ""}', 400, "the question is empty"),
        ("/query", '{"question": "a\\u0000b"}', 400, "U+0000"),
        ("/query", '{"question": "a\\ud800b"}', 400, "U+D800"),
        ("/query", json.dumps({"question": "x" * 5_000_000}), 413, "larger than 4194304 bytes"),
        ("/query", json.dumps({"question": "x" * 5000}), 400, "5000 characters"),
        ("/query", '{"question": "q", "k": 0}', 422, "got 0"),
        ("/query", '{"question": "q", "k": -1}', 422, "got -1"),
        ("/query", '{"question": "q", "k": 2147483648}', 422, "got 2147483648"),
        ("/query", '{"question": "q", "k": 1e400}', 422, "got inf"),
        ("/query", '{"question": "q", "chain": "nope"}', 404, "unknown chain 'nope'"),
        ("/query", '{"question": "q", "user": "nobody"}', 404, "unknown user 'nobody'"),
        ("/query", '{"question": "q", "user": ""}', 400, "0 characters"),
        ("/query", '{"question": "q", "user": "a\\u0000"}', 400, "U+0000"),
        ("/query", '{"question": "q", "colour": 1}', 422, "colour"),
        ("/query", '{"question": "q", "filter": {"nope": 1}}', 400, "column 'nope'"),
        ("/query", '{"question": ', 400, "not JSON"),
        ("/query", "[]", 422, "got []"),
        ("/indexes/nope/search", '{"text": "q"}', 404, "unknown index 'nope'"),
        ("/indexes/docs/search", '{"text": "\\ud800"}', 400, "U+D800"),
        ("/indexes/docs/search", '{"text": "q", "query_type": "magic"}', 422, "got 'magic'"),
        ("/nope", "{}", 404, "/nope"),
    ],
)
def test_bad_input_is_a_4xx_in_the_one_error_shape_that_names_the_value(
    world, path, body, status, words
):
    headers = {"content-type": "application/json"}
    response = world.http.post(path, content=body.encode(), headers=headers)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_new_generation_is_served_within_two_seconds_and_no_request_is_dropped(world):
    statuses, stop = [], threading.Event()

    def keep_asking():
        with httpx2.Client(base_url=world.http.base_url, timeout=60) as http:
            while not stop.is_set():
                found = http.post("/indexes/docs/search", json={"text": "sorting"})
                statuses.append(found.status_code)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    world.workspace.write_table(
        {"heapq": "The heapq module keeps a list sorted as a heap."}, mode="append"
    )
    assert world.workspace.run("index", "sync", "docs").returncode == 0
    deadline = time.monotonic() + 2
    search = {"text": "which module keeps a list sorted as a heap", "k": 1}
    while True:
        found = world.http.post("/indexes/docs/search", json=search).json()
        if found["hits"][0]["document_id"] == "heapq":
            break
        assert time.monotonic() < deadline, "the new generation was not served within 2 s"
        time.sleep(0.05)
    stop.set()
    asking.join()
    assert set(statuses) == {200}
    assert found["version"]["table_version"] == DeltaTable(world.workspace.table).version()


def test_a_model_killed_in_mid_answer_is_a_typed_error_and_the_next_request_is_served(world):
    lines = world.stream()
    assert json.loads(next(lines))["type"] == "delta"
    child = world.model()
    child.suspend()
    child.kill()
    *_, last, end = lines
    error = json.loads(last)
    assert (error["type"], error["error"]["code"], end) == ("error", "model_died", "[DONE]")
    again = world.ask()
    assert again.status_code == 200, again.text
    assert world.model().pid != child.pid


def test_openapi_has_examples_and_the_process_is_alive(world):
    forms = world.http.get("/openapi.json").json()["components"]["schemas"]
    assert forms["QueryRequest"]["properties"]["question"]["examples"]
    assert world.http.get("/healthz").json() == {"status": "ok"}


def test_the_old_generation_serves_while_the_table_is_gone_and_after_a_restart(
    serve, synced_workspace
):
    shutil.rmtree(synced_workspace.table)
    server = serve(synced_workspace)
    prepared = server.ask(generate=False).json()
    assert prepared["passages"][0]["document_id"] == "csv"
    assert server.ask().json()["lag"] is None


def test_features_that_the_views_do_not_have_end_the_start_in_one_line(synced_workspace):
    mood = {"HEADRACE_CHAINS__DOCS__FEATURES__PROMPT_FEATURES": '["mood"]'}
    refused = synced_workspace.run("serve", **mood)
    assert refused.returncode == 1
    assert "view user_profile has no feature 'mood'; it has: " in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_server_told_to_watch_syncs_commits_by_itself(serve, synced_workspace):
    file = synced_workspace.folder / "headrace.yaml"
    text = file.read_text()
    assert "    embedder: minilm\n    key" in text
    file.write_text(
        text.replace(
            "    embedder: minilm\n",
            "    embedder: minilm\n    sync: watch\n    verify_every_s: 0.3\n",
            1,
        )
    )
    server = serve(synced_workspace)
    DeltaTable(synced_workspace.table).delete("id = 'csv'")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = server.ask(generate=False).json()
        if answer["version"]["table_version"] == 1:
            break
        time.sleep(0.05)
    assert "csv" not in [passage["document_id"] for passage in answer["passages"]]
    status = json.loads(synced_workspace.run("index", "status", "docs", "--json").stdout)
    assert (status["table_version"], status["sync"]) == (1, "watch")
    assert status["watcher"]["is_alive"]
    told = server.http.get("/indexes/docs").json()
    assert server.http.get("/indexes").json()[0]["name"] == "docs"
    assert server.http.get("/indexes/nope").status_code == 404
    assert (told["documents"], told["version"]["table_version"]) == (2, 1)
    assert (told["sync"]["failures"], told["problem"]) == (0, None)
    assert told["sync"]["rows_per_s"] > 0
    assert (told["pending_rows"], told["drift"]["vectors"]) == (0, 3)
    assert (status["pending_rows"], status["drift"]) == (0, told["drift"])
    while told["proof"] is None and time.monotonic() < deadline:
        time.sleep(0.1)
        told = server.http.get("/indexes/docs").json()
    assert told["proof"]["is_equal"], told
