"""One contract over Feast (its own CLI, SQLite, a Delta source) and the in-memory reader."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_store.errors import FeaturesNotApplied, UnknownView
from feature_store.features import Feature
from feature_store.memory import InMemoryFeatures, View

DEFINITIONS = Path(__file__).parents[2] / "feature_store" / "definitions"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FRESH, OLD = NOW - timedelta(hours=1), NOW - timedelta(days=91)
STATS = {"csv": (FRESH, 10, 3), "cgi": (OLD, 7, 0)}


@pytest.fixture(scope="module")
def feast_repo(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    repo = root / "feature_store" / "definitions"
    shutil.copytree(DEFINITIONS, repo, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".headrace" / "features").mkdir(parents=True)
    moment = pa.timestamp("us", tz="UTC")
    write_deltalake(
        str(root / ".headrace/tables/document_stats"),
        pa.table({
            "document_id": list(STATS),
            "views": [views for _, views, _ in STATS.values()],
            "helpful_votes": [votes for *_, votes in STATS.values()],
            "last_reviewed": pa.array([FRESH] * 2, moment),
            "updated_at": pa.array([when for when, *_ in STATS.values()], moment),
        }),
    )  # fmt: skip
    write_deltalake(
        str(root / ".headrace/tables/user_profiles"),
        pa.table({
            "user_id": ["ada"], "experience_level": ["expert"],
            "preferred_modules": pa.array([["csv", "json"]], pa.list_(pa.string())),
            "tone": ["terse"], "tier": ["paid"], "updated_at": pa.array([FRESH], moment),
        }),
    )  # fmt: skip
    return repo


@pytest.fixture(scope="module")
def feast_reader(feast_repo):
    from feature_store.feast_store import FeastFeatures, apply, materialize

    with pytest.raises(FeaturesNotApplied, match="headrace features apply"):
        FeastFeatures(feast_repo, "rag_v1")
    apply(feast_repo)
    materialize(feast_repo, NOW - timedelta(days=400), NOW)
    return FeastFeatures(feast_repo, "rag_v1", now=lambda: NOW)


@pytest.fixture(scope="module")
def memory_reader():
    stats = {
        key: (when, {"views": views, "helpful_votes": votes, "last_reviewed": FRESH})
        for key, (when, views, votes) in STATS.items()
    }
    profile = {
        "experience_level": "expert", "preferred_modules": ("csv", "json"),
        "tone": "terse", "tier": "paid",
    }  # fmt: skip
    views = {
        "document_stats": View(
            ("views", "helpful_votes", "last_reviewed"), stats, timedelta(days=90)
        ),
        "user_profile": View(tuple(profile), {"ada": (FRESH, profile)}, timedelta(days=365)),
    }
    return InMemoryFeatures(views, now=lambda: NOW)


@pytest.fixture(params=["feast_reader", "memory_reader"])
def reader(request):
    return request.getfixturevalue(request.param)


def test_rows_come_in_the_order_of_the_keys_with_value_and_age(reader):
    cgi, csv = reader.read("document_stats", ["cgi", "csv"])
    assert csv["views"] == Feature("document_stats", "csv", "views", 10, 3600.0, False, True)
    assert (csv["helpful_votes"].value, csv["last_reviewed"].value) == (3, FRESH)
    assert cgi["views"].value == 7


def test_a_value_older_than_its_views_ttl_is_marked_stale(reader):
    (cgi,) = reader.read("document_stats", ["cgi"])
    assert cgi["views"] == Feature(
        "document_stats", "cgi", "views", 7, 91 * 86400.0, is_stale=True, is_present=True
    )


def test_an_unknown_key_has_no_present_value(reader):
    (nobody,) = reader.read("user_profile", ["nobody"])
    assert set(nobody) == {"experience_level", "preferred_modules", "tone", "tier"}
    assert {(f.value, f.age_s, f.is_present) for f in nobody.values()} == {(None, None, False)}


def test_a_list_is_a_tuple_and_no_keys_are_no_rows(reader):
    (ada,) = reader.read("user_profile", ["ada"])
    assert ada["preferred_modules"].value == ("csv", "json")
    assert reader.read("user_profile", []) == ()


def test_an_unknown_view_is_refused_by_name(reader):
    with pytest.raises(UnknownView, match="'nope'"):
        reader.read("nope", ["a"])
