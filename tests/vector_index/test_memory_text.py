"""What only full text in memory can promise: it changes in place, and without a lock."""

import threading

from vector_index.fulltext import MemoryText
from vector_index.passages import Access, Passage

STAFF = Access("acme", frozenset({"staff"}))


def passage(key, text, title=""):
    return Passage(key, 0, title, text, 0, len(text), "h", "acme", ("staff",))


def memory(passages):
    text = MemoryText(has_tenant=True, has_groups=True)
    text.add(passages)
    return text


def find(text, question):
    return text.search(question, 100, access=STAFF, is_allowed=lambda *_: True)


def test_removing_everything_leaves_the_statistics_of_nothing():
    text = memory([passage("a", "cat"), passage("b", "cat dog", title="pets")])
    text.remove(["a", "b", "unknown"])
    assert find(text, "cat pets") == []
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
