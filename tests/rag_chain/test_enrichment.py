"""Features against hand-computed ranks: score + weight * log10(1 + value), preferred + 0.05."""

from datetime import UTC, datetime, timedelta

import pytest

from feature_store.memory import InMemoryFeatures, View
from rag_chain.enrichment import FeatureSource, FeatureUse, Preference, enrich
from rag_chain.errors import UnknownUser, UnusableFeature
from vector_index.passages import Hit, Passage

NOW = datetime(2026, 11, 24, tzinfo=UTC)
FRESH, OLD = NOW - timedelta(hours=1), NOW - timedelta(days=91)
USE = FeatureUse(
    "profile", "stats", {"views": 0.01}, ("level",), Preference("modules", "module", 0.05)
)


def source(stats=None, *, ada=FRESH, use=USE):
    rows = {key: (when, {"views": views}) for key, (when, views) in (stats or {}).items()}
    profile = {"ada": (ada, {"level": "expert", "modules": ("json",), "tier": "paid"})}
    reader = InMemoryFeatures(
        {
            "stats": View(("views",), rows, timedelta(days=90)),
            "profile": View(("level", "modules", "tier"), profile, timedelta(days=30)),
        },
        now=lambda: NOW,
    )
    return FeatureSource(reader, use)


def hits(**scores):
    return [
        Hit(Passage(key, 0, key, key, 0, 1, key, metadata={"module": key}), score)
        for key, score in scores.items()
    ]


def order(enriched):
    return [hit.passage.document_id for hit in enriched.hits]


def test_a_much_viewed_document_overtakes_one_that_is_a_little_nearer():
    # 0.51 + 0.01 * log10(1 + 99) = 0.53 > 0.525
    enriched = enrich(hits(csv=0.525, json=0.51), None, source({"json": (FRESH, 99)}))
    assert order(enriched) == ["json", "csv"]
    assert [hit.score for hit in enriched.hits] == [0.51, 0.525]


def test_a_stale_statistic_changes_nothing_and_is_shown_as_stale():
    enriched = enrich(hits(csv=0.525, json=0.51), None, source({"json": (OLD, 99)}))
    assert order(enriched) == ["csv", "json"]
    assert [(f.key, f.is_stale) for f in enriched.features(enriched.hits)] == [("json", True)]


def test_a_number_below_zero_counts_against_a_document():
    enriched = enrich(hits(csv=0.5, json=0.51), None, source({"json": (FRESH, -99)}))
    assert order(enriched) == ["csv", "json"]


def test_what_the_user_prefers_comes_first_and_only_for_that_user():
    found = hits(csv=0.54, json=0.5)
    assert order(enrich(found, "ada", source())) == ["json", "csv"]
    assert order(enrich(found, None, source())) == ["csv", "json"]


def test_the_prompt_gets_only_the_features_declared_for_it():
    enriched = enrich(hits(csv=0.5), "ada", source())
    assert enriched.profile == {"level": "expert"}
    looked_at = [(f.view, f.name, f.value, f.age_s) for f in enriched.features(enriched.hits)]
    assert looked_at == [
        ("profile", "level", "expert", 3600.0),
        ("profile", "modules", ("json",), 3600.0),
    ]


def test_a_stale_profile_changes_neither_prompt_nor_order():
    enriched = enrich(hits(csv=0.54, json=0.5), "ada", source(ada=OLD))
    assert (order(enriched), enriched.profile) == (["csv", "json"], {})
    assert {f.is_stale for f in enriched.user} == {True}


def test_features_of_documents_outside_the_prompt_are_not_reported():
    stats = {"csv": (FRESH, 1), "json": (FRESH, 2)}
    enriched = enrich(hits(csv=0.5, json=0.4), None, source(stats))
    assert [f.key for f in enriched.features(enriched.hits[:1])] == ["csv"]


def test_equal_ranks_keep_the_order_of_the_search():
    assert order(enrich(hits(b=0.5, a=0.5), None, source())) == ["b", "a"]


def test_an_unknown_user_is_refused_by_name_even_without_hits():
    with pytest.raises(UnknownUser, match="'nobody'"):
        enrich([], "nobody", source())


@pytest.mark.parametrize("value", ["many", float("nan"), ("a",)])
def test_a_statistic_that_is_no_number_is_refused_by_name(value):
    with pytest.raises(UnusableFeature, match=r"stats:views of 'csv'"):
        enrich(hits(csv=0.5), None, source({"csv": (FRESH, value)}))


def test_a_feature_that_the_view_does_not_have_is_refused_by_name():
    use = FeatureUse("profile", "stats", {"likes": 0.01}, (), None)
    with pytest.raises(UnusableFeature, match="'likes'; it has: views"):
        enrich(hits(csv=0.5), None, source(use=use))
