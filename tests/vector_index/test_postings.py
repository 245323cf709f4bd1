"""Words by number: what a part of a collection scores beside the rest of it."""

import pytest

from vector_index.fulltext import Postings
from vector_index.passages import Passage


def passage(text, title=""):
    return Passage("d", 0, title, text, 0, len(text), "h", "acme", ("staff",))


def postings(passages, first=0):
    words = Postings()
    for number, one in enumerate(passages, first):
        words.add(number, one)
    return words


def test_the_newest_part_scores_as_if_it_were_in_one_collection_with_its_background():
    old = [passage("cat " * (n % 4 + 1) + "dog", title="pets") for n in range(20)]
    new = [passage("a zebra and a cat", title="Zebras"), passage("cat cat")]
    background, tail, whole = postings(old), postings(new, first=20), postings(old + new)
    expected = {n: score for n, score in whole.scores("zebra cat pets").items() if n >= 20}
    assert tail.scores("zebra cat pets", background) == pytest.approx(expected)
    assert expected[20] > expected[21] > 0


def test_without_its_background_a_fresh_passage_with_a_rare_word_would_come_last():
    background = postings([passage("cat dog" if n else "cat zebra") for n in range(50)])
    tail = postings([passage("fresh zebra")])
    old, new = background.scores("zebra")[0], tail.scores("zebra", background)[0]
    assert old > new == pytest.approx(old, rel=0.2)
    assert tail.scores("zebra")[0] < old / 5


def test_an_empty_background_changes_nothing():
    tail = postings([passage("cat"), passage("cat dog")])
    assert tail.scores("cat dog", Postings()) == tail.scores("cat dog")


def test_forgetting_everything_leaves_the_statistics_of_nothing():
    words = postings([passage("cat"), passage("cat dog", title="pets")])
    words.forget(0)
    words.forget(1)
    assert (words.passages, words.average_length("text"), words.passages_with("text", "cat")) == (
        0, 0.0, 0,
    )  # fmt: skip
    assert words.scores("cat pets") == {}
