"""What counts as a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_index.fulltext.tokens import (
    MAX_QUERY_CHARS,
    MAX_QUERY_TERMS,
    MAX_TERM_CHARS,
    query_terms,
    tokens,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Read a CSV file.", ["read", "a", "csv", "file"]),
        ("csv.DictReader", ["csv", "dict", "reader", "dictreader"]),
        ("os.path_join(__init__)", ["os", "path", "join", "pathjoin", "init"]),
        ("HTTPServer2 getURLPath", ["http", "server2", "httpserver2", "get", "url", "path",
                                    "geturlpath"]),
        ("UTF-8 utf8", ["utf", "8", "utf8"]),
        ("Straße ΣΟΦΟΣ naïve", ["strasse", "σοφοσ", "naïve"]),
        ("ﬁle \uff12", ["file", "2"]),
        ("検索エンジン v2", ["検", "索", "エ", "ン", "ジ", "ン", "v2"]),
        ("Москва", ["москва"]),
        ("___ -- \x00 \t\n", []),
        ("a\x00b", ["a", "b"]),
        ("\ud800x", ["x"]),
        ("", []),
    ],
)  # fmt: skip
def test_a_text_falls_into_these_terms(text, expected):
    assert tokens(text) == expected


@given(st.text(st.characters(max_codepoint=127)))
def test_a_text_of_ascii_falls_into_the_terms_that_it_has_beside_other_letters(text):
    assert tokens(f"{text} é") == [*tokens(text), "é"]


def test_a_composed_and_a_decomposed_letter_are_the_same_term():
    assert tokens("cafe\u0301") == tokens("café") == ["café"]


def test_a_long_term_is_cut_and_so_still_found():
    assert tokens("x" * 5000) == ["x" * MAX_TERM_CHARS]


def test_a_question_repeats_no_term_and_has_a_bounded_number_of_them():
    assert query_terms("to be or not to be") == ["to", "be", "or", "not"]
    assert len(query_terms(" ".join(f"t{n}" for n in range(1000)))) == MAX_QUERY_TERMS
    assert query_terms(" " * MAX_QUERY_CHARS + "late") == []


@given(st.text(st.characters()))
def test_terms_hold_nothing_that_separates_terms(text):
    for term in tokens(text):
        assert term
        assert len(term.split()) == 1
        assert len(term) <= 3 * MAX_TERM_CHARS  # folding may lengthen a letter: ß, ŉ, ΐ
        term.encode()
