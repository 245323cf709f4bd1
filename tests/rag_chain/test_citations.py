"""Citations by hand: two passages, sentences that rest on one, both or neither."""

import pytest

from rag_chain.citations import cite, support
from vector_index.passages import Hit, Passage


def hit(document_id, text, score=0.5):
    return Hit(Passage(document_id, 0, document_id, text, 10, 10 + len(text), "h"), score)


HITS = (
    hit("csv", "The csv module reads and writes tabular data.", 0.7),
    hit("json", "The json module encodes Python objects.", 0.4),
)


def test_a_true_marker_of_the_model_is_kept():
    text, citations = cite("It reads tabular data [1].", HITS)
    assert text == "It reads tabular data. [1]"
    assert [(c.marker, c.document_id, c.origin, c.start, c.score) for c in citations] == [
        (1, "csv", "model", 10, 0.7)
    ]


def test_a_marker_that_names_no_passage_is_removed():
    text, citations = cite("Bananas grow upwards [7].", HITS)
    assert (text, citations) == ("Bananas grow upwards.", ())


def test_a_sentence_without_a_marker_gets_the_passage_that_shares_its_words():
    text, citations = cite("Python objects are encoded by the json module.", HITS)
    assert text.endswith("[2]")
    assert [(c.document_id, c.origin) for c in citations] == [("json", "attributed")]


def test_a_sentence_that_no_passage_supports_is_left_uncited():
    assert cite("Bananas grow upwards.", HITS) == ("Bananas grow upwards.", ())


def test_every_passage_is_cited_once():
    _, citations = cite("It reads data [1]. It writes data [1]. It encodes objects [2].", HITS)
    assert [c.marker for c in citations] == [1, 2]


def test_support_is_the_share_of_distinct_words_found():
    assert support("csv reads bananas upwards", "csv reads files") == pytest.approx(0.5)
    assert support("", "anything") == 0.0


@pytest.mark.parametrize("text", ["", "   ", "[1]", "...", "no stop", "v3.11 is out. Yes!"])
def test_any_text_survives(text):
    assert isinstance(cite(text, HITS)[0], str)
