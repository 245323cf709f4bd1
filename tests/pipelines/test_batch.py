"""One answer beside each key, through kills, faults, changes of the table and other hands."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_child import answer, begin, echo, plan_of
from deltalake import DeltaTable, write_deltalake

from llm_endpoint.errors import EngineBusy, EngineDied, EngineUnavailable
from llm_endpoint.generation.scripted import Fault, ScriptedGenerator
from pipelines.batch import PromptTemplate, ResultTable, open_rows
from pipelines.batch.key_set import KeySet
from pipelines.batch.prompts import UnfillableRow
from pipelines.errors import BadKeys, BadPrompt, BatchRefused, SourceChanged

CHILD = Path(__file__).with_name("batch_child.py")


def write(folder, ids, words=None, mode="error"):
    words = words or [f"word {one}" for one in ids]
    write_deltalake(str(folder), pa.table({"id": ids, "word": words}), mode=mode)
    return folder


def read(out):
    return DeltaTable(str(out)).to_pyarrow_table().to_pylist()


class Faulty(ScriptedGenerator):
    """Raises what it is given, one a request, then answers."""

    def __init__(self, *errors):
        super().__init__(echo)
        self.errors, self.asked = list(errors), 0

    async def ask(self, route, body, *, timeout_s):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return await super().ask(route, body, timeout_s=timeout_s)


def test_every_row_has_its_answer_beside_its_key(tmp_path):
    table = write(tmp_path / "t", [3, 1, 2])
    report = answer(table, tmp_path / "out", ScriptedGenerator(echo))
    assert (report.rows, report.answered, report.failed, report.kept) == (3, 3, 0, 0)
    rows = sorted(read(tmp_path / "out"), key=lambda row: row["key"])
    assert [(row["key"], row["response"]) for row in rows] == [
        (1, "word 1"), (2, "word 2"), (3, "word 3"),
    ]  # fmt: skip
    asked = json.dumps([{"role": "user", "content": "Say: word 1"}])
    assert rows[0]["prompt_sha256"] == hashlib.sha256(asked.encode()).hexdigest()
    first = {name: rows[0][name] for name in
             ("finish_reason", "prompt_tokens", "completion_tokens", "error", "model")}  # fmt: skip
    assert first == {"finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 2,
                     "error": None, "model": "scripted"}  # fmt: skip
    again = answer(table, tmp_path / "out", ScriptedGenerator([Fault("die")]))
    assert (again.answered, again.failed, again.kept) == (0, 0, 3)


def test_killed_anywhere_it_goes_on_and_ends_with_one_result_a_row(tmp_path):
    table, out = tmp_path / "t", tmp_path / "out"
    ids = list(range(400))
    for first in range(0, 400, 100):  # several files
        write(table, ids[first : first + 100], mode="append")
    dice, kills = random.Random(8), 0
    while True:
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(table), str(out)],
            env={**os.environ, "PYTHONPATH": str(CHILD.parents[2])},
        )
        before = commits(out)
        wanted = before + dice.randint(1, 12)
        deadline = time.monotonic() + 60
        while child.poll() is None and commits(out) < wanted:
            assert time.monotonic() < deadline, f"{commits(out)} commits, waiting for {wanted}"
        if child.poll() is not None:
            break
        time.sleep(dice.random() * 0.02)  # somewhere between two commits, or within one
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    assert child.returncode == 0
    assert kills >= 3
    rows = read(out)
    assert sorted(row["key"] for row in rows) == ids
    assert all(row["response"] == f"word {row['key']}" for row in rows)


def commits(out):
    return len(list((out / "_delta_log").glob("*.json")))


def test_what_goes_wrong_with_a_row_stands_beside_it(tmp_path):
    table = write(tmp_path / "t", ["ok", "null", "long", "dead"], ["a", None, "w " * 50, "die"])

    def script(request):
        return Fault("die") if request.messages[-1].content.endswith("die") else echo(request)

    out = tmp_path / "out"
    report = answer(table, out, ScriptedGenerator(script, context_tokens=20))
    assert (report.answered, report.failed) == (1, 3)
    errors = {row["key"]: row["error"] for row in read(out)}
    assert errors["ok"] is None
    assert errors["null"] == "UnfillableRow: column 'word' is null"
    assert errors["long"].startswith("ContextOverflow: scripted refused the request")
    assert errors["dead"].startswith("EngineDied: scripted died")
    ResultTable(out).forget_errors()
    again = answer(table, out, ScriptedGenerator(echo))
    assert (again.kept, again.answered, again.failed) == (1, 2, 1)


def test_an_engine_that_is_busy_or_dies_once_is_asked_again(tmp_path):
    engine = Faulty(EngineBusy("m"), EngineDied("gone"), EngineUnavailable("not yet"))
    report = answer(write(tmp_path / "t", [1, 2]), tmp_path / "out", engine)
    assert (report.answered, report.failed, engine.asked) == (2, 0, 5)


def test_an_engine_that_is_not_there_ends_the_run_and_no_row_has_its_error(tmp_path):
    table, out = write(tmp_path / "t", list(range(20))), tmp_path / "out"
    engine = Faulty(*[EngineUnavailable("the engine did not start")] * 1000)
    with pytest.raises(EngineUnavailable, match="did not start"):
        answer(table, out, engine)
    assert read(out) == []
    assert answer(table, out, ScriptedGenerator(echo)).answered == 20


def test_a_run_that_goes_on_reads_the_version_it_began_with(tmp_path):
    table, out = write(tmp_path / "t", [1, 2, 3]), tmp_path / "out"
    assert answer(table, out, ScriptedGenerator(echo), limit=2).answered == 2
    write(table, [1, 9], mode="overwrite")
    report = answer(table, out, ScriptedGenerator(echo))
    assert (report.kept, report.answered) == (2, 1)
    assert sorted(row["key"] for row in read(out)) == [1, 2, 3]


def test_parquet_is_answered_and_refused_once_its_files_are_others(tmp_path):
    folder, out = tmp_path / "p", tmp_path / "out"
    folder.mkdir()
    pq.write_table(pa.table({"id": ["a", "b"], "word": ["x", "y"]}), folder / "1.parquet")
    assert answer(folder, out, ScriptedGenerator(echo), limit=1).answered == 1
    rows, _, plan = begin(folder, out)
    pq.write_table(pa.table({"id": ["c"], "word": ["z"]}), folder / "2.parquet")
    (difference,) = plan.differences(plan_of(open_rows(str(folder), key="id", columns=["word"])))
    assert difference.startswith("table_identity:")
    with pytest.raises(SourceChanged):
        rows.check_same()


def test_columns_of_folder_names_and_columns_that_files_lack_are_read(tmp_path):
    table = tmp_path / "t"
    first = pa.table({"id": [1, 2], "word": ["x", "y"], "part": ["p", "q"]})
    write_deltalake(str(table), first, partition_by=["part"])
    later = pa.table({"id": [3], "word": ["z"], "part": ["p"], "new": [0.5]})
    write_deltalake(str(table), later, mode="append", schema_mode="merge")
    rows = open_rows(str(table), key="id", columns=["part", "new"])
    found = [tuple(row.values()) for batch in rows.batches() for row in batch]
    assert sorted(found) == [(1, "p", None), (2, "q", None), (3, "p", 0.5)]
    by_folder = open_rows(str(table), key="part", columns=["part"])
    with pytest.raises(BadKeys, match="key 'p' stands more than once"):
        by_folder.check_keys()


def test_a_large_row_group_is_not_read_whole(tmp_path):
    words = (f"{number:07}" * 150 for number in range(100_000))
    write(tmp_path / "t", list(range(100_000)), list(words))
    rows = open_rows(str(tmp_path / "t"), key="id", columns=["word"])
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in rows._batches(["id", "word"])]
    assert len(held) > 700
    assert max(held) < 20_000_000  # of 105 MB


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 1], "key 1 stands more than once"),
        ([1, None], "1 rows of .* have a null 'id'"),
        ([1.5, 2.5], "is double; a key is text or a whole number"),
    ],
)
def test_keys_that_do_not_tell_rows_apart_are_refused(tmp_path, ids, message):
    table = write(tmp_path / "t", ids, ["w"] * len(ids))
    with pytest.raises(BadKeys, match=message):
        open_rows(str(table), key="id", columns=["word"]).check_keys()


def test_columns_that_are_not_there_are_named(tmp_path):
    table = write(tmp_path / "t", [1])
    with pytest.raises(BadPrompt, match=r"names a column 'wrd', which .* it has: id, word"):
        open_rows(str(table), key="id", columns=["wrd"])
    with pytest.raises(BadPrompt, match="the key is the column 'key'"):
        open_rows(str(table), key="key", columns=["word"])


def test_a_prompt_is_filled_from_columns_and_from_nothing_else():
    template = PromptTemplate("{{x}} {a}, {b c} and {a}")
    assert template.columns == ("a", "b c")
    assert template.fill({"a": 1, "b c": ["é", None]}) == '{x} 1, ["é",null] and 1'
    assert PromptTemplate("{a.b}{c[0]}").columns == ("a.b", "c[0]")  # names, not attributes
    for text in ("{", "{}", "{a!r}", "{a:>9}", "a", ""):
        with pytest.raises(BadPrompt):
            PromptTemplate(text)
    with pytest.raises(UnfillableRow, match="is binary"):
        template.fill({"a": b"1", "b c": 1})


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    other = write(tmp_path / "t", [1])
    with pytest.raises(BatchRefused, match="a table that no batch has made"):
        ResultTable(other).plan()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    with pytest.raises(BatchRefused, match="holds no results of a batch"):
        ResultTable(tmp_path / "notes").plan()
    results = ResultTable(tmp_path / "out")
    with (
        results.alone(),
        pytest.raises(BatchRefused, match="another run is writing"),
        results.alone(),
    ):
        raise AssertionError("two at once")


def test_a_key_set_knows_its_keys():
    keys = KeySet()
    assert keys.has(["a"]) == [False]
    keys.add([f"key {n}" for n in range(1000)] + ["key 7"])
    assert (keys.close(), len(keys)) == (1, 1000)
    assert keys.has(["key 999", "key 1000", "", "key 0"]) == [True, False, False, True]
