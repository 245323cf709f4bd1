"""Arrow batches against rules as headrace.yaml declares them; pandera does the checking."""

import importlib.util

import pyarrow as pa
import pytest

from pipelines import languages as identifier
from pipelines.errors import BadCheck, MissingExtra, QualityFailed
from pipelines.quality import Verdict, judge, parse_checks

BATCH = pa.record_batch(
    {
        "id": ["a", "b", "c", "d"],
        "body": ["hello there", None, "x" * 50, ""],
        "lang": pa.array(["en", "de", "xx", None]).dictionary_encode(),
        "views": pa.array([1, None, 2**60 + 1, -4], pa.int64()),
        "share": [0.5, 1.0, None, 2.0],
        "tags": pa.array([["x"], None, [], ["x", "y", "z"]], pa.list_(pa.string())),
    }
)


def broken(rule, *, batch=BATCH):
    """The keys that break one rule."""
    checks = parse_checks([{**rule, "on_fail": "quarantine"}], batch.schema)
    return list(judge(batch, checks, key="id").quarantined)


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ({"column": "body", "check": "not_null"}, ["b"]),
        ({"column": "tags", "check": "not_null"}, ["b"]),
        ({"column": "body", "check": "length", "min": 1}, ["d"]),
        ({"column": "body", "check": "length", "min": 1, "max": 20}, ["c", "d"]),
        ({"column": "tags", "check": "length", "min": 1, "max": 2}, ["c", "d"]),
        ({"column": "lang", "check": "allowed", "values": ["en", "de"]}, ["c"]),
        ({"column": "views", "check": "allowed", "values": [1, 2**60, -4]}, ["c"]),
        ({"column": "views", "check": "range", "min": 0}, ["d"]),
        ({"column": "share", "check": "range", "max": 1}, ["d"]),
        ({"column": "body", "check": "matches", "pattern": "[a-w]+ "}, ["c", "d"]),
    ],
)
def test_a_rule_is_broken_by_just_these_rows(rule, keys):
    assert broken(rule) == keys


TEXTS = {
    "english": "Refunds take fourteen days, counted from the day on which you asked for one.",
    "german": "Der Betrag wird innerhalb von vierzehn Tagen auf Ihr Konto zurücküberwiesen.",
    "french": "Le montant vous sera remboursé dans les quatorze jours suivant votre demande.",
    "short": "Ask",
    "code": "def f(x): return x + 1",
    "empty": "",
    "null": None,
}


@pytest.mark.parametrize(
    ("languages", "keys"),
    [(["en"], ["german", "french"]), (["en", "de"], ["french"]), (["ja"], list(TEXTS)[:3])],
)
def test_a_text_that_is_surely_in_another_language_breaks_the_rule(languages, keys):
    batch = pa.record_batch({"id": list(TEXTS), "body": pa.array(TEXTS.values(), pa.string())})
    rule = {"column": "body", "check": "language", "languages": languages}
    assert broken(rule, batch=batch) == keys
    assert broken(rule, batch=batch.slice(6, 1)) == []


def test_a_language_can_warn_or_fail_as_any_other_rule():
    rule = {"column": "body", "check": "language", "languages": ["en", "fr"]}
    batch = pa.record_batch({"id": ["a"], "body": [TEXTS["german"]]})
    told = "1 of 1 rows break the rule body: language languages en, fr, such as 'a'"
    warning = parse_checks([{**rule, "on_fail": "warn"}], batch.schema)
    assert judge(batch, warning, key="id").warnings == (told,)
    assert judge(batch, parse_checks([rule], batch.schema), key="id").failures == (told,)


def test_without_the_extra_a_language_rule_says_what_to_install(monkeypatch):
    identifier._identifier.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rule = {"column": "body", "check": "language", "languages": ["en"]}
    with pytest.raises(MissingExtra, match=r"pip install 'headrace\[languages\]'"):
        parse_checks([rule], BATCH.schema)


def test_length_counts_characters_and_not_bytes():
    batch = pa.record_batch({"id": ["a", "b"], "body": ["ééé", "éééé"]})
    assert broken({"column": "body", "check": "length", "max": 3}, batch=batch) == ["b"]


def test_strings_of_every_arrow_type_are_checked_alike():
    rule = {"column": "body", "check": "length", "min": 2}
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        batch = pa.record_batch({"id": ["a", "b"], "body": pa.array(["xx", "x"], kind)})
        assert broken(rule, batch=batch) == ["b"]


def test_fail_warn_and_quarantine_each_get_what_is_theirs():
    rules = [
        {"column": "body", "check": "not_null"},
        {"column": "lang", "check": "allowed", "values": ["en"], "on_fail": "warn"},
        {"column": "body", "check": "length", "min": 1, "on_fail": "quarantine"},
        {"column": "share", "check": "range", "max": 1, "on_fail": "quarantine"},
        {"column": "views", "check": "not_null", "on_fail": "warn"},
    ]
    verdict = judge(BATCH, parse_checks(rules, BATCH.schema), key="id")
    assert verdict.failures == ("1 of 4 rows break the rule body: not_null, such as 'b'",)
    assert verdict.warnings == (
        "2 of 4 rows break the rule lang: allowed values en, such as 'b', 'c'",
        "1 of 4 rows break the rule views: not_null, such as 'b'",
    )
    assert verdict.quarantined == {"d": "body: length min 1; share: range max 1"}
    with pytest.raises(QualityFailed, match="body: not_null, such as 'b'; mend the rows, or"):
        verdict.raise_failures()


def test_rows_that_break_nothing_have_an_empty_verdict():
    rules = [{"column": "id", "check": "not_null"}, {"column": "id", "check": "length", "max": 1}]
    checks = parse_checks(rules, BATCH.schema)
    assert judge(BATCH, checks, key="id") == Verdict()
    assert judge(BATCH.slice(0, 0), checks, key="id") == Verdict()
    judge(BATCH, checks, key="id").raise_failures()


def test_rows_are_named_by_their_own_key_in_a_slice_of_a_batch():
    checks = parse_checks([{"column": "body", "check": "not_null", "on_fail": "quarantine"}],
                          BATCH.schema)  # fmt: skip
    assert list(judge(BATCH.slice(1, 2), checks, key="id").quarantined) == ["b"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"column": "text", "check": "not_null"}, "no column 'text'; the table has: id, body"),
        ({"column": "body", "check": "nonnull"}, "no check 'nonnull'; known are: not_null, length"),
        ({"column": "body", "check": "not_null", "on_fail": "drop"}, "on_fail is 'drop'; it must"),
        ({"column": "body", "check": "length"}, "length needs one of: max, min"),
        ({"column": "body", "check": "length", "most": 3}, "has no 'most'; it takes: max, min"),
        ({"column": "body", "check": "length", "min": "3"}, "min is '3'; it must be a number"),
        ({"column": "body", "check": "length", "min": 3, "max": 2}, "min 3 is more than max 2"),
        ({"column": "views", "check": "length", "min": 3}, "a string or a list; column 'views'"),
        ({"column": "body", "check": "range", "min": 3}, "needs a number; column 'body' is string"),
        ({"column": "tags", "check": "allowed", "values": ["x"]}, "column 'tags' is list"),
        ({"column": "lang", "check": "allowed", "values": "en"}, "values is 'en'; it must be"),
        ({"column": "body", "check": "matches", "pattern": "("}, "is no regular expression"),
        ({"column": "body", "check": "language", "languages": ["en", "xx"]}, "no language 'xx'"),
        ({"column": "body", "check": "language", "languages": "en"}, "languages is 'en'; it must"),
        ({"column": "body", "check": "language", "languages": []}, "languages is empty; name at"),
        ({"column": "views", "check": "language", "languages": ["en"]}, "column 'views' is int64"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_what_is_allowed(rule, message):
    with pytest.raises(BadCheck, match=message) as caught:
        parse_checks([rule], BATCH.schema)
    assert str(caught.value).startswith("quality[0]")
