"""Hypothesis drives a writer through any order of operations, against a dictionary."""

import shutil
import tempfile
from pathlib import Path

import by_hand
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vector_index.history import rollback
from vector_index.local import LocalIndex
from vector_index.options import WriterOptions
from vector_index.passages import Access
from vector_index.tail import TailLimits
from vector_index.writer import IndexWriter

DIM = 4
SETTINGS = by_hand.random_settings(dim=DIM)
GROUPS = ("staff", "board")
KEYS = st.sampled_from([f"k{number}" for number in range(12)])
DOCUMENT = st.tuples(
    KEYS, st.integers(0, 3), st.sampled_from(GROUPS), st.integers(0, 2**31)
)  # id, passages, group, seed of its vectors


class Day(RuleBasedStateMachine):
    """model: document id to its group and vectors."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.home = self.folder / "docs"
        self.model = {}
        self.version = 0
        self.writer = self.open()
        self.publish([], [])

    def open(self):
        options = WriterOptions(tail=TailLimits(rows=16), is_synced=False, merges=False)
        return IndexWriter(self.home, SETTINGS, options=options)

    def change(self, documents, removed):
        """The change, and what the model is after it."""
        latest = {document[0]: document for document in documents}
        removed = frozenset(removed) - latest.keys()
        rows, model = [], {k: v for k, v in self.model.items() if k not in removed}
        for key, count, group, seed in latest.values():
            vectors = by_hand.random_vectors(seed, count, DIM)
            model[key] = (group, vectors)
            rows += [
                (by_hand.passage(key, ordinal=number, groups=(group,)), vector)
                for number, vector in enumerate(vectors)
            ]
        made = by_hand.delta(rows, removed)
        documents = by_hand.random_delta(list(latest), dim=DIM).documents
        vectors = np.array([v for _, v in rows], np.float32).reshape(-1, DIM)
        return type(made)(documents, made.passages, vectors, removed), model

    @rule(documents=st.lists(DOCUMENT, max_size=4), removed=st.lists(KEYS, max_size=3))
    def upsert(self, documents, removed):
        change, self.model = self.change(documents, removed)
        self.writer.upsert(change)

    @rule(removed=st.lists(KEYS, max_size=3))
    def delete(self, removed):
        self.model = {k: v for k, v in self.model.items() if k not in removed}
        self.writer.delete(removed)

    @rule(documents=st.lists(DOCUMENT, max_size=4), removed=st.lists(KEYS, max_size=3))
    def publish(self, documents, removed):
        change, self.model = self.change(documents, removed)
        self.version += 1
        self.writer.publish(change, by_hand.source(self.version))

    @rule()
    def flush(self):
        self.writer.flush()

    @rule()
    def merge(self):
        self.writer.flush()
        generation = self.writer.generation()
        merging = self.writer._merging
        if len(generation.layers) > 1 and merging._merge is None:
            ids = [layer.segment.id for layer in generation.layers]
            merging.merge_here(generation, ids)

    @rule()
    def reopen(self):
        self.writer.close()
        self.writer = self.open()

    @rule()
    def crash(self):
        """The process is gone: its folder is all that is left."""
        crashed = self.folder / f"crashed-{len(list(self.folder.iterdir()))}"
        shutil.copytree(self.home, crashed)
        self.writer.close()
        self.home = crashed
        self.writer = self.open()

    @rule()
    def read(self):
        reader = LocalIndex(self.home, SETTINGS)
        # A full tail is flushed by itself, so the newest generation may be newer than ours.
        if reader.version().sequence == self.writer.version().sequence:
            assert reader.documents().keys() == self.model.keys()

    @invariant()
    def every_search_equals_brute_force(self):
        if not hasattr(self, "writer"):
            return
        assert self.writer.documents().keys() == self.model.keys()
        rows = sum(len(vectors) for _, vectors in self.model.values())
        assert self.writer.count() == (len(self.model), rows)
        query = by_hand.random_vectors(1, 1, DIM)[0]
        for groups in (GROUPS, ("board",)):
            expected = sorted(
                (-float(vector @ query), key, number)
                for key, (group, vectors) in self.model.items()
                for number, vector in enumerate(vectors)
                if group in groups
            )
            hits = self.writer.search(query, k=50, access=Access("acme", frozenset(groups))).hits
            assert [-h.score for h in hits] == pytest.approx([e[0] for e in expected], abs=1e-5)
            qualifying = {entry[1:] for entry in expected}
            assert {(h.passage.document_id, h.passage.ordinal) for h in hits} == qualifying
            self.check_words(Access("acme", frozenset(groups)), qualifying)

    def check_words(self, access, qualifying):
        """Every passage says `text of <its document>`: words find each, or one document's."""
        for words, expected in (
            ("text", qualifying),
            ("K3", {place for place in qualifying if place[0] == "k3"}),
        ):
            hits = self.writer.search(None, k=50, access=access, text=words, mode="full_text").hits
            assert len(hits) == len(expected)
            assert {(h.passage.document_id, h.passage.ordinal) for h in hits} == expected

    def teardown(self):
        if hasattr(self, "writer"):
            self.writer.close()
            shutil.rmtree(self.folder, ignore_errors=True)


TestDay = Day.TestCase
TestDay.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_rolling_back_and_on_keeps_to_the_model(tmp_path):
    home = tmp_path / "docs"
    with IndexWriter(home, SETTINGS) as writer:
        writer.publish(by_hand.random_delta(["a"], dim=DIM), by_hand.source())
        writer.publish(by_hand.random_delta(["b"], dim=DIM), by_hand.source(1))
        writer.upsert(by_hand.random_delta(["c"], dim=DIM))
    rollback(home, 1)
    with IndexWriter(home, SETTINGS) as writer:
        writer.upsert(by_hand.random_delta(["d"], dim=DIM))
    with IndexWriter(home, SETTINGS) as writer:
        assert writer.documents().keys() == {"a", "d"}
