"""What only full text in memory can promise: one list with a larger text, and no lock."""

import threading

import pytest

from vector_index.fulltext import MemoryText, best_first
from vector_index.passages import Access, Passage

STAFF = Access("acme", frozenset({"staff"}))


def passage(key, text, title=""):
    return Passage(key, 0, title, text, 0, len(text), "h", "acme", ("staff",))


def memory(passages):
    text = MemoryText(has_tenant=True, has_groups=True)
    text.add(passages)
    return text


def find(text, question, **options):
    return text.search(question, 100, access=STAFF, is_allowed=lambda *_: True, **options)


def test_the_newest_part_scores_as_if_it_were_in_one_text_with_its_background():
    old = [passage(f"d{n}", "cat " * (n % 4 + 1) + "dog", title="pets") for n in range(20)]
    new = [passage("new", "a zebra and a cat", title="Zebras"), passage("newer", "cat cat")]
    background, tail, whole = memory(old), memory(new), memory(old + new)
    expected = [hit for hit in find(whole, "zebra cat pets") if hit.document_id.startswith("new")]
    found = find(tail, "zebra cat pets", background=background)
    assert [hit.document_id for hit in found] == ["new", "newer"]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected])


def test_without_its_background_a_fresh_passage_with_a_rare_word_would_come_last():
    old = [passage(f"d{n}", "cat dog" if n else "cat zebra") for n in range(50)]
    background, tail = memory(old), memory([passage("new", "fresh zebra")])
    found = [*find(background, "zebra"), *find(tail, "zebra", background=background)]
    assert [hit.document_id for hit in sorted(found, key=best_first)] == ["d0", "new"]
    assert found[1].score == pytest.approx(found[0].score, rel=0.2)
    assert find(tail, "zebra")[0].score < found[0].score / 5


def test_an_empty_background_changes_nothing():
    tail = memory([passage("a", "cat"), passage("b", "cat dog")])
    assert find(tail, "cat dog", background=memory([])) == find(tail, "cat dog")


def test_removing_everything_leaves_the_statistics_of_nothing():
    text = memory([passage("a", "cat"), passage("b", "cat dog", title="pets")])
    text.remove(["a", "b", "unknown"])
    assert (text.passages, text.average_length("text"), text.passages_with("text", "cat")) == (
        0, 0.0, 0,
    )  # fmt: skip
    text.add([passage("c", "cat")])
    assert [hit.document_id for hit in find(text, "cat")] == ["c"]


def test_searches_beside_a_writer_always_see_what_does_not_change():
    text = memory([passage("stays", "cat dog", title="cat")])
    stop, failures = threading.Event(), []

    def search():
        while not stop.is_set():
            try:
                assert "stays" in {hit.document_id for hit in find(text, "cat dog bird")}
            except Exception as exc:  # noqa: BLE001 - whatever it is, the test reports it
                failures.append(exc)
                return

    readers = [threading.Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(2000):
        text.add([passage(f"d{number % 50}", "cat bird " * (number % 5 + 1))])
        text.remove([f"d{(number + 25) % 50}"])
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
