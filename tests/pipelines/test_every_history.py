"""Any operations on a table, in any order, with syncs in between: the index is the table.

Rows that cannot be indexed are among them: they are in quarantine, and nothing else is. What ends
in a refusal and leaves nothing to go on with (key columns renamed or retyped, features that
deltalake cannot read) is in test_hostile_histories.py, other writers in test_incremental.py.

HEADRACE_SEED repeats a run, HEADRACE_OPERATIONS makes it longer (`make soak`).
"""

import inspect
import json
import os
import random
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from worlds import FEED, SCHEMA, AsideWorld, World, row

from pipelines.errors import BadKeys, SchemaMismatch
from vector_index.history import history, rollback

STEPS = 25
OPERATIONS = int(os.environ.get("HEADRACE_OPERATIONS", "500"))
KEYS = st.sampled_from(["a", "b", "c", "d", "e", "é", "\U0001f600", "zz"])
BODIES = [
    "",
    "words",
    "poison words",
    "one two three words",
    " ".join(f"word{n} words" for n in range(20)),
]
ROW = st.builds(
    row, KEYS,
    body=st.sampled_from(BODIES),
    title=st.sampled_from(["t", "", None]),
    kind=st.sampled_from(["note", "memo", None]),
    views=st.integers(0, 3) | st.none(),
    tenant=st.sampled_from(["acme", "acme", "other", None]),
    groups=st.sampled_from([["staff"], ["staff", "board"], ["board"], [], None]),
)  # fmt: skip
ROWS = st.lists(ROW, min_size=1, max_size=4, unique_by=lambda one: one["id"])


def table_of(forms, schema=SCHEMA):
    return pa.Table.from_pylist(forms, schema=schema)


def then_sync(operation):
    """The operation, and a sync if `is_synced`."""

    def both(self, *, is_synced, **arguments):
        operation(self, **arguments)
        if is_synced:
            self._sync()

    both.__name__ = operation.__name__
    return both


class Histories(RuleBasedStateMachine):
    """The oracle is the table itself, read by deltalake alone."""

    modes: ClassVar[Counter[str]] = Counter()
    steps: ClassVar[int] = 0

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()

    @initialize(forms=ROWS, feed=st.sampled_from([True, True, True, False]))
    def begin(self, forms, feed):
        self.world = AsideWorld(Path(self.folder.name), keys=None)
        self.world.create(table_of(forms), feed=feed)
        self.world.open()

    @invariant()
    def count(self):
        Histories.steps += 1

    def teardown(self):
        self.folder.cleanup()

    @property
    def schema(self):
        return pa.schema(self.world.delta.schema().to_arrow())

    def fit(self, forms):
        """The rows in the columns the table has by now."""
        return table_of(forms, self.schema)

    @property
    def is_whole(self):
        return "body" in self.schema.names

    @rule(forms=ROWS, is_synced=st.booleans())
    @then_sync
    def append(self, forms):
        there = set(self.ids())
        if new := [form for form in forms if form["id"] not in there]:
            self.world.append(self.fit(new))

    @rule(forms=ROWS, is_synced=st.booleans())
    @then_sync
    def upsert(self, forms):
        if len(set(self.ids())) == len(self.ids()):  # a merge refuses to match one row twice
            self.world.upsert(self.fit(forms))

    @rule(forms=ROWS)
    def overwrite(self, forms):
        self.world.overwrite(self.fit(forms))

    @rule(key=KEYS, is_synced=st.booleans())
    @then_sync
    def delete(self, key):
        self.world.delta.delete(f"id = '{key}'")

    @rule()
    def delete_all(self):
        self.world.delta.delete()

    @rule(key=KEYS, kind=st.sampled_from(["'memo'", "'other'", "null"]), is_synced=st.booleans())
    @then_sync
    def update_metadata(self, key, kind):
        self.world.delta.update(updates={"kind": kind}, predicate=f"id = '{key}'")

    def append_duplicates(self, forms):
        self.world.append(self.fit(forms))

    def add_a_null_key(self):
        self.world.append(self.fit([row(None)]))

    @rule()
    def mend(self):
        """Or most of a history would be refusals."""
        if not self.is_whole:
            self.world.overwrite(table_of([row("a")]), schema_mode="overwrite")
        self.world.delta.delete("id is null")
        table = self.world.delta.to_pyarrow_table()
        kept = {one["id"]: one for one in table.to_pylist()}
        self.world.overwrite(table_of(list(kept.values()), table.schema))

    def add_a_column(self, forms, name="extra"):
        if name not in self.schema.names:
            more = self.fit(forms).append_column(name, pa.array(["x"] * len(forms)))
            self.world.append(more, schema_mode="merge")

    def widen_a_column(self, forms):
        schema = SCHEMA.set(4, pa.field("views", pa.int64()))
        self.world.overwrite(table_of(forms, schema), schema_mode="overwrite")

    def narrow_it_again(self, forms):
        self.world.overwrite(table_of(forms), schema_mode="overwrite")

    def drop_a_mapped_column(self, forms):
        self.world.overwrite(table_of(forms).drop(["body"]), schema_mode="overwrite")

    def vacuum(self):
        self.world.delta.vacuum(0, dry_run=False, enforce_retention_duration=False)

    @rule()
    def optimize(self):
        self.world.delta.optimize.compact()

    @rule()
    def z_order(self):
        self.world.delta.optimize.z_order(["id"])

    def clean_the_log(self):
        self.world.delta.create_checkpoint()
        newest = self.world.delta.version()
        for version in range(newest):
            self.world.commit_file(version).unlink(missing_ok=True)

    def recreate(self, forms):
        self.world.drop()
        self.world.create(table_of(forms))

    def feed_on(self):
        self.world.delta.alter.set_table_properties({FEED: "true"})

    def feed_off(self):
        self.world.delta.alter.set_table_properties({FEED: "false"})

    def restore(self, back=2):
        table = self.world.delta
        with suppress(DeltaError):  # a clean-up has taken that version, or there is none
            table.restore(max(0, table.version() - back))

    def jump_clocks(self, moment=-(10**18)):
        before = self.world.delta.version()
        self.world.delta.update(updates={"title": "'by a broken clock'"}, predicate="id > 'b'")
        if self.world.delta.version() > before:
            file = self.world.commit_file(before + 1)
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            for line in lines:
                line.get("commitInfo", {})["timestamp"] = moment
            file.write_text("\n".join(map(json.dumps, lines)))

    def commit_without_information(self):
        self.world.write_commit({"txn": {"appId": "a stream", "version": 1}})

    @rule(
        what=st.sampled_from(
            [
                "append_duplicates", "add_a_null_key", "vacuum", "clean_the_log",
                "commit_without_information", "jump_clocks",
                "add_a_column", "widen_a_column", "narrow_it_again", "drop_a_mapped_column",
                "recreate", "feed_on", "feed_on", "feed_off", "restore", "restore",
            ]
        ),
        forms=ROWS,
        is_synced=st.booleans(),
    )  # fmt: skip
    @then_sync
    def do_something_hostile(self, what, forms):
        """One rule, so that it is as likely as a plain change, and feeds live for a while."""
        operation = getattr(self, what)
        takes_rows = "forms" in inspect.signature(operation).parameters
        operation(forms) if takes_rows else operation()

    @rule()
    def reopen_the_index(self):
        if self.is_whole:
            self.world.open()
            self._sync()

    @rule()
    def roll_the_index_back(self):
        kept = history(self.world.folder / "index")
        if kept:
            rollback(self.world.folder / "index", kept[-1].manifest.number)

    @rule()
    def sync(self):
        self._sync()

    def ids(self):
        return self.world.delta.to_pyarrow_table(columns=["id"])["id"].to_pylist()

    def _sync(self):
        ids = self.ids()
        refusal = None if None not in ids and len(set(ids)) == len(ids) else BadKeys
        if refusal := refusal if self.is_whole else SchemaMismatch:
            with pytest.raises(refusal):
                self.world.sync()
            return
        report = self.world.sync()
        self.modes[report.mode] += 1
        self.world.check()
        assert self.world.sync().is_noop


def test_after_any_history_the_index_is_the_table():
    number = int(os.environ.get("HEADRACE_SEED") or random.randrange(2**32))
    print(f"HEADRACE_SEED={number} HEADRACE_OPERATIONS={OPERATIONS}")
    runs = 0
    # Not every step of an example need be taken, so a run may come to a few operations less.
    while Histories.steps < OPERATIONS:
        options = settings(
            max_examples=(OPERATIONS - Histories.steps) // STEPS + 2,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(seed(number + runs)(Histories), settings=options)
        runs += 1
    print(f"{Histories.steps} operations, syncs: {dict(Histories.modes)}")
    # Else nothing but the comparison of all rows has been tried.
    assert min(Histories.modes["incremental"], Histories.modes["diff"]) > OPERATIONS // 50


def test_the_oracle_notices_a_passage_that_is_not_the_tables(tmp_path):
    """A proof of nothing unless it can fail."""
    world = World(tmp_path, keys=["a", "b"])
    world.sync()
    world.check()
    world.delta.update(updates={"kind": "'memo'"}, predicate="id = 'a'")
    with pytest.raises(AssertionError):
        world.check()
