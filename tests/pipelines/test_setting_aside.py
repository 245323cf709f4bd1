"""The hooks in the order a sync calls them, over a real quarantine and the hashing embedder."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.isolation import isolate
from pipelines.quality import parse_checks
from pipelines.quarantine import Quarantine
from pipelines.setting_aside import Rules, SettingAside
from pipelines.sifting import Refused
from vector_index.passages import SourceVersion

EMBEDDER = HashingEmbedder(16)
VERSION = SourceVersion("table", 3, "fp", datetime(2026, 11, 25, tzinfo=UTC))


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine(tmp_path / "docs")


def fussy(texts):
    if any("poison" in text for text in texts):
        raise RuntimeError("cannot")
    return EMBEDDER.embed_passages(texts)


def synced(quarantine, bodies, *, rules=None, retried=frozenset(), removed=(), embed=fussy):
    """One sync of rows whose hash is their body; the keys tried, and those indexed."""
    aside = SettingAside(quarantine, "id", "body", rules or Rules(), retried)
    aside.begin()
    tried, known = aside.wanted(dict(bodies))
    raw = {key: bodies[key] for key in tried}
    batch = aside.sift(pa.record_batch({"id": list(raw), "body": list(raw.values())}))
    keys, texts = batch["id"].to_pylist(), batch["body"].to_pylist()
    _, failures = isolate(embed, texts)
    for failure in failures:
        row = keys[failure.position]
        aside.reject(Refused(row, failure.reason, failure.detail, texts[failure.position]))
    aside.before_publish(bodies, VERSION)
    indexed = set(keys) - aside.rejected
    aside.after_publish(indexed, removed)
    return set(tried), indexed, known


BODIES = {"a": "fine", "b": "poison", "c": "fine too", "d": "short"}


def test_bad_rows_are_set_aside_with_their_reasons_and_the_rest_is_indexed(quarantine):
    rule = {"column": "body", "check": "matches", "pattern": "fine|poison",
            "on_fail": "quarantine"}  # fmt: skip
    schema = pa.schema({"id": pa.string(), "body": pa.string()})
    _, indexed, _ = synced(quarantine, BODIES, rules=Rules(parse_checks([rule], schema)))
    assert indexed == {"a", "c"}
    held = [(row.key, row.reason, row.row_hash, row.table_version) for row in quarantine.open()]
    assert held == [("b", "embedder_failed", "poison", 3), ("d", "quality", "short", 3)]


def test_a_row_that_is_held_as_it_is_is_not_tried_again_until_it_changes(quarantine):
    synced(quarantine, BODIES)
    tried, indexed, known = synced(quarantine, BODIES)
    assert (tried, indexed, known) == ({"a", "c", "d"}, {"a", "c", "d"}, {"b"})
    assert [row.attempts for row in quarantine.open()] == [1]
    tried, indexed, known = synced(quarantine, {"b": "healed"})
    assert (tried, indexed, known) == ({"b"}, {"b"}, set())
    assert quarantine.open() == []


def test_a_row_that_is_retried_is_tried_as_it_is(quarantine):
    synced(quarantine, BODIES)
    _, indexed, _ = synced(quarantine, {"b": "poison"}, retried=frozenset({"b"}))
    assert indexed == set()
    assert [(row.key, row.attempts) for row in quarantine.open()] == [("b", 2)]
    synced(quarantine, {"b": "poison"}, retried=frozenset({"b"}), embed=EMBEDDER.embed_passages)
    assert quarantine.open() == []


def test_a_row_that_leaves_the_table_leaves_the_quarantine(quarantine):
    synced(quarantine, BODIES)
    synced(quarantine, {}, removed=["b", "never held"])
    assert quarantine.open() == []


def test_a_sync_that_sets_nothing_aside_makes_no_quarantine(quarantine, tmp_path):
    synced(quarantine, {"a": "fine"})
    assert not (tmp_path / "docs").exists()
